//! The operator's page: as a browser shows it on a phone, and as somebody meets it who means ill.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use reqwest::StatusCode;
use reqwest::blocking::{Client, Response};
use reqwest::redirect::Policy;
use serde_json::json;

use crate::browser::Browser;
use crate::served::make_token;
use crate::support::machine::can_mount;
use crate::support::mounted::Mounted;
use crate::support::place::{Place, text};
use crate::support::samples;

const SCRIPT: &str = "<script>alert(1)<!--.jpg";
const BREAKOUT: &str = "\"><img src=x onerror=alert(2)>.png";
const TURNED: &str = "photo\u{202e}gpj.exe";

/// A mount that shows its page and serves no API.
struct Shown {
    mounted: Mounted,
    place: Place,
    base: String,
    admin: String,
}

impl Shown {
    fn start(options: &[&str]) -> Shown {
        let place = Place::with_volume(&["--quota", "100MiB"]);
        let admin = make_token(&place, "admin", "ops");
        let mounted = Mounted::start_with(&place, &[&["--page=127.0.0.1:0"], options].concat());
        let started = Instant::now();
        let base = loop {
            let log = mounted.log();
            if let Some(line) = log.lines().find_map(|line| line.split("the page answers at ").nth(1)) {
                break line.trim().to_owned();
            }
            assert!(started.elapsed() < Duration::from_secs(30), "the page does not say where it is:\n{log}");
            std::thread::sleep(Duration::from_millis(5));
        };
        Shown { mounted, place, base, admin }
    }

    /// Puts a medium there that is long expired.
    fn expire(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.mounted.path(name);
        fs::write(&path, bytes).unwrap();
        let long_ago = SystemTime::now() - Duration::from_secs(400 * 86_400);
        fs::File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
        path
    }

    fn id_of(&self, name: &str) -> String {
        let info = self.place.run(&["info", "--json", text(&self.mounted.path(name))]).json();
        info["id"].as_str().unwrap().to_owned()
    }
}

fn photo() -> Vec<u8> {
    fs::read(samples::dir().join("image/photo.jpg")).unwrap()
}

/// The least contrast of any text on the page with what is behind it, as WCAG 2.2 reckons it, and which text that is.
const CONTRAST: &str = r"(() => {
  const parse = c => c.match(/[\d.]+/g).map(Number);
  const light = c => { const [r, g, b] = c.slice(0, 3).map(v => { v /= 255; return v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; });
    return .2126 * r + .7152 * g + .0722 * b; };
  const ground = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
  let worst = [99, ''];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let n; n = walk.nextNode();) {
    if (!n.textContent.trim() || !n.parentElement.getClientRects().length) continue;
    const [a, b] = [light(parse(getComputedStyle(n.parentElement).color)), light(ground(n.parentElement))];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < worst[0]) worst = [ratio, n.textContent.trim()];
  }
  return worst;
})()";

/// Controls without a name, or too small for a finger.
const POOR_CONTROLS: &str = r"[...document.querySelectorAll('button, input:not([type=hidden], [hidden]), meter, img, table')].filter(e => {
  const named = e.labels?.length || e.getAttribute('aria-label') || e.alt || e.textContent.trim() || e.caption;
  const small = e.tagName == 'BUTTON' && e.getBoundingClientRect().height < 44;
  return !named || small;
}).map(e => e.outerHTML)";

/// What holds of every page.
fn expect_usable(browser: &mut Browser, at: &str) {
    let wide = browser.eval("document.documentElement.scrollWidth - innerWidth").as_i64().unwrap();
    assert!(wide <= 0, "{at} is {wide} pixels too wide for a phone");
    assert_eq!(browser.eval("innerWidth"), json!(360), "{at} is shown at a phone's width");
    assert_eq!(browser.eval("document.scripts.length"), json!(0));
    assert_eq!(
        browser.eval("document.querySelectorAll('[style], [onclick], [onerror], iframe, object').length"),
        json!(0)
    );
    assert_eq!(browser.eval(POOR_CONTROLS), json!([]), "{at}");
    assert_eq!(browser.eval("document.querySelectorAll('h1').length"), json!(1), "{at}");
    for scheme in ["dark", "light"] {
        browser.like(scheme);
        let worst = browser.eval(CONTRAST);
        assert!(worst[0].as_f64().unwrap() >= 4.5, "{at}, {scheme}: {worst}");
    }
}

#[test]
fn media_are_looked_at_removed_and_held_by_keyboard_on_a_phone() {
    if !can_mount("media_are_looked_at_removed_and_held_by_keyboard_on_a_phone") {
        return;
    }
    let shown = Shown::start(&[]);
    let hostile = shown.expire(SCRIPT, &photo());
    let breakout = shown.expire(BREAKOUT, b"<html><script>alert(3)</script>");
    let drawing = b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(4)'><script>alert(5)</script></svg>";
    shown.expire("drawing.svg", drawing);
    let turned = shown.expire(TURNED, b"MZ");
    fs::write(shown.mounted.path("young"), b"young").unwrap();
    let mut browser = Browser::start();
    browser.go(&format!("{}/", shown.base));
    assert_eq!(browser.eval("location.pathname"), json!("/login"));
    expect_usable(&mut browser, "login");
    browser.tab_to("Tab", "e.name == 'token'");
    browser.type_in("wam_wrong");
    browser.press_to_go("Enter");
    assert!(browser.text().contains("This is no token"), "{}", browser.text());
    browser.tab_to("Tab", "e.name == 'token'");
    browser.type_in(&shown.admin);
    browser.press_to_go("Enter");
    assert_eq!(browser.eval("location.pathname"), json!("/"));
    expect_usable(&mut browser, "overview");
    let overview = browser.text();
    for told in ["of 100.0 MiB used", "5 media", "4 media", "Not known before six hours", "none configured", "Oldest"] {
        assert!(overview.contains(told), "{told}:\n{overview}");
    }
    assert_eq!(browser.eval("document.cookie"), json!(""), "no script could read the session");
    if let Some(dir) = std::env::var_os("WAMEDIA_SHOTS") {
        browser.shoot(&PathBuf::from(dir).join("overview.png"));
    }

    browser.tab_to("Tab", "e.textContent == 'Expired' && e.tagName == 'A'");
    browser.press_to_go("Enter");
    expect_usable(&mut browser, "expired");
    let listed = browser.text();
    assert!(listed.contains(SCRIPT) && listed.contains(BREAKOUT), "names are text:\n{listed}");
    assert!(listed.contains("photo\\u{202e}gpj.exe") && !listed.contains('\u{202e}'), "{listed}");
    assert!(!listed.contains("young"), "{listed}");
    let (id, other) = (shown.id_of(SCRIPT), shown.id_of(TURNED));
    let seen = format!(
        "new Promise(done => {{ const i = document.querySelector('img[src$=\"{id}\"]'); i.scrollIntoView(); \
         const look = () => i.complete && i.naturalWidth ? done(i.naturalWidth) : setTimeout(look, 50); look(); }})"
    );
    assert!(browser.eval(&seen).as_u64().unwrap() > 100, "the preview is the picture");
    if let Some(dir) = std::env::var_os("WAMEDIA_SHOTS") {
        browser.shoot(&PathBuf::from(dir).join("expired.png"));
    }

    browser.tab_to("Tab", &format!("e.value == '{id}'"));
    browser.press("Space");
    browser.tab_to("Shift+Tab", "e.textContent == 'Remove the chosen…'");
    browser.press_to_go("Enter");
    expect_usable(&mut browser, "confirmation");
    assert!(browser.text().contains(SCRIPT) && !browser.text().contains(BREAKOUT));
    assert!(hostile.exists(), "nothing goes before it is confirmed");
    browser.tab_to("Tab", "e.textContent == 'Remove 1 medium'");
    browser.press_to_go("Enter");
    assert!(browser.text().contains("Removed: 1 medium"), "{}", browser.text());
    assert!(!hostile.exists() && breakout.exists() && turned.exists(), "that one is gone from the mount, and no other");
    let removed = shown.place.run(&["audit", "--json", "--id", &id, text(shown.mounted.root())]).json();
    assert_eq!((&removed["way"], &removed["name"]), (&json!("page"), &json!("ops")), "{removed}");

    browser.tab_to("Tab", &format!("e.value == '{other}'"));
    browser.press("Space");
    browser.tab_to("Shift+Tab", "e.textContent == 'Hold the chosen'");
    browser.press_to_go("Enter");
    assert!(browser.text().contains("Held: 1 medium") && !browser.text().contains("gpj.exe"));
    browser.go(&format!("{}/held", shown.base));
    expect_usable(&mut browser, "held");
    browser.tab_to("Tab", &format!("e.value == '{other}'"));
    browser.press("Space");
    browser.tab_to("Shift+Tab", "e.textContent == 'Release the chosen'");
    browser.press_to_go("Enter");
    assert!(browser.text().contains("Released: 1 medium") && browser.text().contains("Nothing is held here"));

    browser.go(&format!("{}/media/{}", shown.base, shown.id_of("young")).replace("/media/", "/none/"));
    assert!(browser.text().contains("no such page"));
    browser.tab_to("Tab", "e.textContent.startsWith('Log out')");
    browser.press_to_go("Enter");
    assert_eq!(browser.eval("location.pathname"), json!("/login"));
    browser.go(&format!("{}/expired", shown.base));
    assert_eq!(browser.eval("location.pathname"), json!("/login"), "the session is over");

    let strays: Vec<&String> = browser.visited.iter().filter(|url| !url.starts_with(&shown.base)).collect();
    assert!(strays.iter().all(|url| *url == "about:blank"), "asked of others: {strays:?}");
    let complaints: Vec<&String> = browser.complaints.iter().filter(|text| !text.contains("status of 40")).collect();
    assert!(complaints.is_empty(), "{complaints:?}");
    drop(browser);
    shown.mounted.unmount();
}

/// Somebody with the cookie of a session, without a browser's good manners.
struct Visitor {
    client: Client,
    base: String,
    cookie: String,
}

fn client() -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder().redirect(Policy::none()).tls_danger_accept_invalid_certs(true);
    builder.timeout(Duration::from_secs(60)).build().unwrap()
}

fn log_in(base: &str, token: &str) -> Response {
    client().post(format!("{base}/login")).body(format!("token={token}")).send().unwrap()
}

impl Visitor {
    fn of(base: &str, token: &str) -> Visitor {
        let answer = log_in(base, token);
        assert_eq!((answer.status(), &answer.headers()["location"]), (StatusCode::SEE_OTHER, &"/".parse().unwrap()));
        let set = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
        for part in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"] {
            assert!(set.split("; ").any(|found| found == part), "{set}");
        }
        assert_eq!(set.contains("Secure") && set.starts_with("__Host-"), base.starts_with("https"), "{set}");
        Visitor { client: client(), base: base.to_owned(), cookie: set.split(';').next().unwrap().to_owned() }
    }

    fn get(&self, path: &str) -> Response {
        self.client.get(format!("{}{path}", self.base)).header("cookie", &self.cookie).send().unwrap()
    }

    fn form_key(&self) -> String {
        let page = self.get("/").text().unwrap();
        let (_, rest) = page.split_once("name=\"form_key\" value=\"").unwrap();
        rest.split('"').next().unwrap().to_owned()
    }

    fn post(&self, path: &str, body: String, headers: &[(&str, &str)]) -> StatusCode {
        let mut request = self.client.post(format!("{}{path}", self.base)).header("cookie", &self.cookie).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().unwrap().status()
    }
}

fn is_sent_to_login(answer: &Response) -> bool {
    answer.status() == StatusCode::SEE_OTHER && answer.headers()["location"] == "/login"
}

#[test]
fn nobody_sees_or_changes_anything_who_has_not_logged_in_here() {
    if !can_mount("nobody_sees_or_changes_anything_who_has_not_logged_in_here") {
        return;
    }
    let shown = Shown::start(&[]);
    let photo = photo();
    let path = shown.expire("photo.jpg", &photo);
    let (id, base) = (shown.id_of("photo.jpg"), shown.base.as_str());
    for page in ["/", "/expired", "/held", &format!("/media/{id}"), "/none"] {
        let answer = client().get(format!("{base}{page}")).send().unwrap();
        assert!(is_sent_to_login(&answer), "{page}: {answer:?}");
    }
    let mnt = shown.place.mnt();
    let mnt = text(&mnt);
    let create = ["token", "create", "--role", "user", "--name", "shop", mnt];
    let user = shown.place.run(&create).expect_success().trim().to_owned();
    assert_eq!(log_in(base, &user).status(), StatusCode::FORBIDDEN);
    assert_eq!(log_in(base, "wam_x").status(), StatusCode::UNAUTHORIZED);
    assert_eq!(client().get(format!("{base}/metrics")).send().unwrap().status(), StatusCode::UNAUTHORIZED);
    let figures = client().get(format!("{base}/metrics")).bearer_auth(&user).send().unwrap().text().unwrap();
    assert!(figures.contains("\nwamedia_volume_expired_media 1\n"), "figures without the API");
    assert_eq!(client().get(format!("{base}/healthz")).send().unwrap().status(), StatusCode::OK);
    let upload = client().post(format!("{base}/v1/media")).bearer_auth(&user).body("x").send().unwrap();
    assert!(is_sent_to_login(&upload), "the API is not served here");

    let (ops, other) = (Visitor::of(base, &shown.admin), Visitor::of(base, &shown.admin));
    let key = ops.form_key();
    let wish = |key: &str| format!("form_key={key}&what=confirm&id={id}");
    let refused = [
        client().post(format!("{base}/expired")).body(wish(&key)).send().unwrap().status(),
        ops.post("/expired", format!("what=confirm&id={id}"), &[]),
        ops.post("/expired", wish(&other.form_key()), &[]),
        ops.post("/expired", wish(&key), &[("sec-fetch-site", "cross-site")]),
        ops.post("/expired", wish(&key), &[("origin", "https://evil.example")]),
        ops.post("/expired", wish(&key), &[("origin", "null")]),
        ops.post("/logout", "form_key=".to_owned(), &[]),
        ops.post("/login", format!("token={}", shown.admin), &[("sec-fetch-site", "cross-site")]),
        ops.post("/expired", "a".repeat(300 << 10), &[]),
        ops.post("/expired", format!("form_key={key}&what=other&id={id}"), &[]),
    ];
    let expected = [303, 403, 403, 403, 403, 403, 403, 403, 413, 400];
    assert_eq!(refused.map(|status| status.as_u16()), expected);
    assert!(path.exists(), "none of them removed anything");

    // What was chosen may have been held since.
    shown.place.run(&["hold", mnt, &id]).expect_success();
    assert_eq!(ops.post("/expired", wish(&key), &[("origin", base)]), StatusCode::SEE_OTHER);
    assert!(path.exists(), "held media stay");
    shown.place.run(&["release", mnt, &id]).expect_success();
    assert_eq!(ops.post("/expired", wish(&key), &[("sec-fetch-site", "same-origin")]), StatusCode::SEE_OTHER);
    assert!(!path.exists());

    shown.place.run(&["token", "revoke", "--name", "ops", mnt]).expect_success();
    assert!(is_sent_to_login(&ops.get("/")), "a revoked token ends its sessions");
    let tries: Vec<u16> = (0..40).map(|_| log_in(base, "wam_x").status().as_u16()).collect();
    assert!(tries.contains(&429), "{tries:?}");
    shown.mounted.unmount();
}

#[test]
fn a_medium_is_shown_and_never_run() {
    if !can_mount("a_medium_is_shown_and_never_run") {
        return;
    }
    let shown = Shown::start(&[]);
    let photo = photo();
    let long = [b"\x89PNG\r\n\x1a\n".as_slice(), &vec![7; 400_000]].concat();
    let html = b"<html><script>alert(1)</script>";
    let cases: [(&str, &[u8], Option<&str>); 5] = [
        ("photo.jpg", &photo, Some("image/jpeg")),
        ("long.png", &long, Some("image/png")),
        ("page.jpg", html, None),
        ("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", None),
        ("empty.gif", b"", None),
    ];
    let visitor = Visitor::of(&shown.base, &shown.admin);
    for (name, bytes, picture) in cases {
        shown.expire(name, bytes);
        let answer = visitor.get(&format!("/media/{}", shown.id_of(name)));
        let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(header("content-type").as_deref(), picture.or(Some("application/octet-stream")), "{name}");
        assert_eq!(header("content-disposition").as_deref(), picture.is_none().then_some("attachment"), "{name}");
        assert_eq!(header("content-security-policy").unwrap(), "default-src 'none'; sandbox");
        assert_eq!(header("x-content-type-options").unwrap(), "nosniff");
        assert_eq!(header("cache-control").unwrap(), "no-store");
        assert_eq!(answer.bytes().unwrap(), bytes, "{name}");
    }
    for none in ["8d3b2d3c-5a0f-4d3b-9a5e-000000000000", "x", "%00"] {
        assert_eq!(visitor.get(&format!("/media/{none}")).status(), StatusCode::NOT_FOUND, "{none}");
    }
    let page = visitor.get("/expired");
    let policy = page.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'self'") && !policy.contains("unsafe"), "{policy}");
    for (name, value) in
        [("x-frame-options", "DENY"), ("referrer-policy", "same-origin"), ("cache-control", "no-store")]
    {
        assert_eq!(page.headers()[name], value);
    }
    assert_eq!(visitor.get("/expired?after=zz").status(), StatusCode::BAD_REQUEST);
    shown.mounted.unmount();
}

#[test]
fn by_tls_the_cookie_is_for_this_host_alone() {
    if !can_mount("by_tls_the_cookie_is_for_this_host_alone") {
        return;
    }
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let keys = tempfile::tempdir().unwrap();
    let (cert, key) = (keys.path().join("cert.pem"), keys.path().join("key.pem"));
    fs::write(&cert, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let shown = Shown::start(&["--tls-cert", text(&cert), "--tls-key", text(&key)]);
    assert!(shown.base.starts_with("https://"), "{}", shown.base);
    let visitor = Visitor::of(&shown.base, &shown.admin);
    assert_eq!(visitor.get("/").status(), StatusCode::OK);
    shown.mounted.unmount();
}
