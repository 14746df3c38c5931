//! `wamedia token`.

use std::time::Duration;

use serde::Serialize;

use super::Outcome;
use crate::cli::args::{TargetArgs, TokenAction, TokenCreate, TokenList, TokenRevoke};
use crate::cli::environment::Environment;
use crate::cli::exit::Exit;
use crate::cli::target::Target;
use crate::cli::{node, output, session};
use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::node::admin::{Answer, Wish};
use crate::node::tokens::{Role, Token};

/// Makes, lists or ends tokens.
///
/// # Errors
/// `NotFound` for a name without tokens; those of [`session::with`].
pub fn run(action: TokenAction, environment: &Environment) -> Outcome {
    match action {
        TokenAction::Create(args) => create(args, environment),
        TokenAction::List(args) => list(&args, environment),
        TokenAction::Revoke(args) => revoke(args, environment),
    }
}

fn ask(args: &TargetArgs, environment: &Environment, wish: &Wish) -> Result<Answer> {
    let target = Target::find(&args.target)?.whole()?;
    session::with(&target, &args.keys, environment, |session| node::ask(session, wish))
}

#[derive(Serialize)]
struct TokenView<'a> {
    name: &'a str,
    role: Role,
    created: String,
    expires: Option<String>,
    login: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
}

impl<'a> TokenView<'a> {
    fn new(token: &'a Token, text: Option<&'a str>) -> TokenView<'a> {
        TokenView {
            name: &token.name,
            role: token.role,
            created: token.created.rfc3339(),
            expires: token.expires.map(Timestamp::rfc3339),
            login: token.login,
            token: text,
        }
    }
}

fn name_of(role: Role) -> &'static str {
    match role {
        Role::Admin => "admin",
        Role::User => "user",
    }
}

fn create(args: TokenCreate, environment: &Environment) -> Outcome {
    let role = Role::from(args.role);
    let keep_secs = args.expires.as_option().map(secs).transpose()?;
    let name = args.name.unwrap_or_else(|| name_of(role).to_owned());
    match ask(&args.target, environment, &Wish::CreateToken { name, role, keep_secs })? {
        Answer::Created { text, token } if args.output.json => output::json(&TokenView::new(&token, Some(&text)))?,
        Answer::Created { text, token } => {
            let ends = token.expires.map_or_else(|| "when it is revoked".to_owned(), output::time);
            eprintln!(
                "wamedia: a token for {} ({}); it ends {ends}, and is not shown again",
                token.name,
                name_of(role)
            );
            output::line(&text)?;
        }
        _ => return Err(session::unexpected().into()),
    }
    Ok(Exit::Success)
}

fn secs(keep: Duration) -> Result<i64> {
    i64::try_from(keep.as_secs()).map_err(|_| Error::new(Kind::Invalid, "the token would last too long; use forever"))
}

fn list(args: &TokenList, environment: &Environment) -> Outcome {
    let Answer::Tokens(tokens) = ask(&args.target, environment, &Wish::ListTokens)? else {
        return Err(session::unexpected().into());
    };
    if args.output.json {
        for token in &tokens {
            output::json(&TokenView::new(token, None))?;
        }
        return Ok(Exit::Success);
    }
    let mut table = output::table(&["NAME", "ROLE", "KIND", "MADE", "ENDS"], &[]);
    for token in &tokens {
        let ends = token.expires.map_or_else(|| "never".to_owned(), output::time);
        let kind = if token.login { "login" } else { "token" };
        table.add_row([
            &output::printable(&token.name),
            name_of(token.role),
            kind,
            &output::time(token.created),
            &ends,
        ]);
    }
    output::print(&table)?;
    Ok(Exit::Success)
}

fn revoke(args: TokenRevoke, environment: &Environment) -> Outcome {
    match ask(&args.target, environment, &Wish::RevokeToken { name: args.name })? {
        Answer::Revoked(count) if args.output.json => output::json(&serde_json::json!({ "revoked": count }))?,
        Answer::Revoked(count) => output::line(&format!("{count} ended"))?,
        _ => return Err(session::unexpected().into()),
    }
    Ok(Exit::Success)
}
