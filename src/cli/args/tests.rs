//! What the command line takes and what it refuses.

use clap::{CommandFactory, Parser};

use super::{Cli, Command, ExpiredAction, QuotaAction, RetentionAction, SortBy};
use crate::control::Limit;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("wamedia").chain(line.split_whitespace()))
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn the_forms_that_scripts_rely_on_are_taken() {
    for line in [
        "init S",
        "init --passphrase-file F --quota 8MiB --retention 30d S",
        "init --key-file F --quota 8MiB --media-quota 10 --reserve uploads=10% --floor 1GiB S",
        "init --cipher xchacha20-poly1305 --retention-type image/*=7d --retention-prefix outgoing=3d --age-by used S",
        "init --cipher none S",
        "init --action purge --grace 24h --owner 1000:1000 --mode 0775 S",
        "mount --force S M",
        "mount S M",
        "mount --key-file F --init --daemon -o allow_other,fsname=x S M",
        "mount --init --quota 1GB --index-cache 64MiB S M",
        "umount M",
        "unmount --lazy M",
        "status M",
        "ls --expired --type image/* --older-than 30d --larger 1MiB --held --sort size --json M",
        "info M a b",
        "info M/a",
        "expired M",
        "expired list M",
        "expired purge --dry-run --older-than 90d --yes M",
        "audit --since 7d --until 2024-05-01T12:00:00Z --id I --json M",
        "hold M a",
        "erase --dry-run M a b",
        "erase --yes --json --names --report R --on-behalf-of X --reason Y M/a",
        "erase --type image/* --older-than 30d --larger 1MiB --expired --below in --attribute user.customer=7 M",
        "erase --from - --key-file F S",
        "erase verify --public-key K R",
        "erase public-key --pem M",
        "release --key-file F S a b",
        "quota show M",
        "quota set --quota none M",
        "retention show M",
        "retention set --default forever --type image/*=7d --prefix out=3d --age-by written M",
        "retention set --medium a --medium b --keep 3d M",
        "retention remove --type image/* --prefix out --medium a M",
        "key list S",
        "key add --key-file F --new-passphrase S",
        "key remove --slot 1 S",
        "key change --passphrase-file F --new-passphrase-file G S",
        "check --key-file F S",
        "check --read-all M",
        "rebuild-index S",
        "import D M",
        "export M D",
        "--log debug status M",
        "status --log debug M",
    ] {
        assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for line in [
        "",
        "nothing",
        "init",
        "init S T",
        "init --key-file A --passphrase-file B S",
        "init --passphrase --credential n S",
        "init --cipher aes S",
        "init --quota 0 S",
        "init --quota -1 S",
        "init --quota lots S",
        "init --retention 30 S",
        "init --retention-type image=7d S",
        "init --retention-prefix /=7d S",
        "init --reserve downloads=10% S",
        "init --age-by born S",
        "mount S",
        "mount --passphrase secret S M",
        "ls --sort colour M",
        "ls --older-than forever M",
        "expired",
        "expired purge",
        "quota M",
        "quota set",
        "retention set --medium a M",
        "retention set --keep 3d M",
        "key add S",
        "key add --new-passphrase --new-key-file F S",
        "key remove S",
        "key remove --slot x S",
        "import D",
        "export M",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
}

#[test]
fn values_reach_their_places() {
    let Command::Mount(mount) = parse("mount --init --quota 8MiB -o a,b=c -o d S M").unwrap().command else {
        panic!("no mount")
    };
    assert_eq!(mount.options, ["a,b=c", "d"]);
    assert_eq!(mount.new.quota.quota, Some(Limit::At(8 << 20)));
    assert_eq!(mount.daemon.index_cache, 16 << 20);
    assert!(mount.init && !mount.daemon.in_background);

    let Command::Ls(ls) = parse("ls --sort age M").unwrap().command else { panic!("no ls") };
    assert_eq!(ls.sort, Some(SortBy::Age));
}

#[test]
fn expired_without_a_word_lists() {
    let Command::Expired(expired) = parse("expired --json M").unwrap().command else { panic!("no expired") };
    assert!(expired.action.is_none() && expired.target.is_some() && expired.output.json);
    let Command::Expired(expired) = parse("expired list M").unwrap().command else { panic!("no expired") };
    assert!(matches!(expired.action, Some(ExpiredAction::List(_))));
}

#[test]
fn actions_are_told_apart() {
    let Command::Quota(quota) = parse("quota set --floor 1GiB M").unwrap().command else { panic!("no quota") };
    assert!(matches!(quota.action, QuotaAction::Set(set) if set.quota.floor == Some(1 << 30)));
    let Command::Retention(retention) = parse("retention show M").unwrap().command else { panic!("no retention") };
    assert!(matches!(retention.action, RetentionAction::Show(_)));
}

#[test]
fn every_command_shows_an_example() {
    fn walk(command: &clap::Command, path: &str) {
        let path = format!("{path} {}", command.get_name());
        if command.get_name() == "help" {
            return;
        }
        let help = command.clone().render_long_help().to_string();
        assert!(help.contains("Example:\n  wamedia"), "{path}");
        for child in command.get_subcommands() {
            walk(child, &path);
        }
    }
    walk(&Cli::command(), "");
}
