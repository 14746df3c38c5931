//! Who may ask what.

use std::io::{Read, Write};
use std::net::TcpStream;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::served::{Served, client, fault_of, make_token};
use crate::support::machine::can_mount;
use crate::support::place::{Place, text};

#[test]
fn only_a_valid_token_opens_and_only_an_admins_changes_settings() {
    if !can_mount("only_a_valid_token_opens_and_only_an_admins_changes_settings") {
        return;
    }
    let place = Place::with_volume(&[]);
    let (user, admin) = (make_token(&place, "user", "shop"), make_token(&place, "admin", "ops"));
    let served = Served::again(place, user.clone(), &[]);
    let client = &served.client;
    let url = format!("{}/v1/health", served.base);

    let nobody = client.get(&url).send().unwrap();
    assert_eq!(nobody.headers()["www-authenticate"], "Bearer realm=\"wamedia\"");
    assert_eq!(fault_of(nobody).1, 1005);
    for wrong in ["", "wam_x", &user[..user.len() - 1]] {
        let (status, code, _) = fault_of(client.get(&url).bearer_auth(wrong).send().unwrap());
        assert_eq!((status, code), (StatusCode::UNAUTHORIZED, 1005));
    }
    let health: Value = client.get(&url).header("D360-API-KEY", &user).send().unwrap().json().unwrap();
    assert_eq!(health["health"]["gateway_status"], "connected");
    assert_eq!(client.get(format!("{}/healthz", served.base)).send().unwrap().status(), StatusCode::OK);

    let settings = format!("{}/v1/settings/application", served.base);
    let forbidden = client.get(&settings).bearer_auth(&user).send().unwrap();
    assert_eq!(forbidden.status(), StatusCode::FORBIDDEN);
    let patch = |body: Value| client.patch(&settings).bearer_auth(&admin).json(&body).send().unwrap();
    assert_eq!(patch(json!({"webhooks": {"url": "https://shop.example/hook"}})).status(), StatusCode::OK);
    let (status, code, details) = fault_of(patch(json!({"webhooks": {"url": "nowhere"}})));
    assert_eq!((status, code), (StatusCode::BAD_REQUEST, 1009));
    assert!(details.contains("webhooks.url"), "{details}");
    assert_eq!(fault_of(patch(json!({"no_such_setting": 1}))).0, StatusCode::BAD_REQUEST);
    assert_eq!(fault_of(patch(json!([1]))).0, StatusCode::BAD_REQUEST);
    let now: Value = client.get(&settings).bearer_auth(&admin).send().unwrap().json().unwrap();
    let application = &now["settings"]["application"];
    assert_eq!(application["webhooks"]["url"], "https://shop.example/hook");
    assert_eq!(application["callback_backoff_delay_ms"], 3000);

    let Served { mounted, place, .. } = served;
    mounted.kill();
    let served = Served::again(place, user, &[]);
    let settings = format!("{}/v1/settings/application", served.base);
    let now: Value = served.client.get(&settings).bearer_auth(&admin).send().unwrap().json().unwrap();
    assert_eq!(now["settings"]["application"]["webhooks"]["url"], "https://shop.example/hook", "it outlives a kill");
    served.mounted.unmount();
}

#[test]
fn a_login_gives_a_token_and_what_is_revoked_ends_at_once() {
    if !can_mount("a_login_gives_a_token_and_what_is_revoked_ends_at_once") {
        return;
    }
    let served = Served::start(&[], &[]);
    let login = format!("{}/v1/users/login", served.base);
    let answer: Value =
        served.client.post(&login).basic_auth("tester", Some(&served.token)).send().unwrap().json().unwrap();
    let token = answer["users"][0]["token"].as_str().unwrap().to_owned();
    let ends = answer["users"][0]["expires_after"].as_str().unwrap();
    assert!(ends.ends_with("+00:00") && ends.len() == 25, "{ends}");
    let health = |token: &str| {
        served.client.get(format!("{}/v1/health", served.base)).bearer_auth(token).send().unwrap().status()
    };
    assert_eq!(health(&token), StatusCode::OK);
    for (name, secret) in [("other", served.token.as_str()), ("tester", "wrong"), ("tester", &token)] {
        let refused = served.client.post(&login).basic_auth(name, Some(secret)).send().unwrap();
        assert_eq!(fault_of(refused).0, StatusCode::UNAUTHORIZED, "{name}");
    }
    let logout = served.client.post(format!("{}/v1/users/logout", served.base)).bearer_auth(&token).send().unwrap();
    assert_eq!(logout.status(), StatusCode::OK);
    assert_eq!(health(&token), StatusCode::UNAUTHORIZED);

    let mnt = served.mounted.root().to_owned();
    let listed = served.place.run(&["token", "list", "--json", text(&mnt)]).json_lines();
    assert_eq!((listed.len(), &listed[0]["name"]), (1, &json!("tester")));
    let made = served.place.run(&["token", "create", "--role", "admin", "--json", text(&mnt)]).json();
    assert_eq!(health(made["token"].as_str().unwrap()), StatusCode::OK, "a token made while it runs");
    served.place.run(&["token", "revoke", "--name", "tester", text(&mnt)]).expect_success();
    assert_eq!(health(&served.token), StatusCode::UNAUTHORIZED);
    let told = served.place.run(&["token", "revoke", "--name", "nobody", text(&mnt)]).expect_failure();
    assert!(told.contains("nobody"), "{told}");
    served.mounted.unmount();
}

#[test]
fn tokens_lie_nowhere_in_the_store_or_the_log() {
    let place = Place::new();
    place.run(&["init", "--cipher", "none", text(&place.store())]).expect_success();
    let made = place.run(&["token", "create", "--role", "user", text(&place.store())]).expect_success();
    let (token, log) = (made.trim().to_owned(), place.path("log"));
    let store = place.store();
    let options = ["serve", "--log", "trace", "--daemon", "--listen", "127.0.0.1:0", "--log-file"];
    let serve = [&options[..], &[text(&log), text(&store)]].concat();
    place.run(&serve).expect_success();
    let told = std::fs::read_to_string(&log).unwrap();
    let base = told.lines().find_map(|line| line.split("answers at ").nth(1)).unwrap().trim().to_owned();
    let answer = client().get(format!("{base}/v1/health")).bearer_auth(&token).send().unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    place.run(&["umount", text(&place.store())]).expect_success();
    for entry in walkdir::WalkDir::new(place.dir()) {
        let entry = entry.unwrap();
        if entry.file_type().is_file() {
            let bytes = std::fs::read(entry.path()).unwrap();
            let found = bytes.windows(token.len()).any(|window| window == token.as_bytes());
            assert!(!found, "the token stands in {}", entry.path().display());
        }
    }
}

#[test]
fn who_shows_no_token_is_refused_before_the_body_is_read() {
    if !can_mount("who_shows_no_token_is_refused_before_the_body_is_read") {
        return;
    }
    let served = Served::start(&[], &[]);
    let address = served.base.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).unwrap();
    // A body of 50 MB is announced, and never sent.
    stream.write_all(b"POST /v1/media HTTP/1.1\r\nHost: x\r\nContent-Length: 50000000\r\n\r\n").unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 401");
    let unknown = served.ask(Method::GET, "/v1/nothing").send().unwrap();
    assert_eq!(fault_of(unknown).1, 1006);
    let wrong = served.ask(Method::PUT, "/v1/media").send().unwrap();
    assert_eq!(fault_of(wrong).0, StatusCode::METHOD_NOT_ALLOWED);
    served.mounted.unmount();
}

#[test]
fn every_operation_refuses_who_has_no_token_and_every_admins_operation_a_user() {
    if !can_mount("every_operation_refuses_who_has_no_token_and_every_admins_operation_a_user") {
        return;
    }
    let served = Served::start(&[], &[]);
    let document: Value = served.client.get(format!("{}/openapi.json", served.base)).send().unwrap().json().unwrap();
    let (mut guarded, mut admins) = (0, 0);
    for (path, operations) in document["paths"].as_object().unwrap() {
        let path = path.replace("{id}", "463eb7ec-ff4e-4d9b-b110-1879cbd411b2").replace("{name}", "x");
        for (method, operation) in operations.as_object().unwrap() {
            if operation["security"].is_null() {
                continue;
            }
            let method: Method = method.to_uppercase().parse().unwrap();
            let ask = || served.client.request(method.clone(), format!("{}{path}", served.base));
            // Who asks too often without a token is told so, and may ask again after a second.
            let answer = loop {
                let answer = ask().send().unwrap();
                if answer.status() != StatusCode::TOO_MANY_REQUESTS {
                    break answer;
                }
                assert_eq!(answer.headers()["retry-after"], "1");
                std::thread::sleep(std::time::Duration::from_secs(1));
            };
            assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{method} {path}");
            guarded += 1;
            if operation["responses"].get("403").is_some() {
                let answer = ask().bearer_auth(&served.token).send().unwrap();
                assert_eq!(fault_of(answer).0, StatusCode::FORBIDDEN, "{method} {path}");
                admins += 1;
            }
        }
    }
    assert!(guarded > admins && admins > 5, "{guarded} guarded operations, {admins} of admins");
    served.mounted.unmount();
}

#[test]
fn what_makes_no_sense_in_a_path_or_a_query_is_told_as_every_error() {
    if !can_mount("what_makes_no_sense_in_a_path_or_a_query_is_told_as_every_error") {
        return;
    }
    let place = Place::with_volume(&[]);
    let admin = make_token(&place, "admin", "ops");
    let served = Served::again(place, admin, &[]);
    let provider = "/v1/settings/application/media/providers/%FF";
    assert_eq!(fault_of(served.ask(Method::DELETE, provider).send().unwrap()).0, StatusCode::NOT_FOUND);
    assert_eq!(fault_of(served.get("/v1/media/%FF/download")).0, StatusCode::NOT_FOUND);
    assert_eq!(fault_of(served.get("/webhooks/%FF")).0, StatusCode::NOT_FOUND);
    let (status, code, details) = fault_of(served.get("/v1/webhooks/dead?limit=many"));
    assert_eq!((status, code), (StatusCode::BAD_REQUEST, 1009), "{details}");
    assert!(details.contains("limit"), "{details}");
    served.mounted.unmount();
}
