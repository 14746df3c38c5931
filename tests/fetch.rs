//! Fetching links from servers on this machine, which are private by nature: what is allowed here is 127.0.0.1, and
//! 127.0.0.2 stands for the network that must not be reached.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::TryStreamExt;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use wamedia::node::Secret;
use wamedia::node::fetch::{Credentials, FetchConfig, FetchError, Fetched, Fetcher};

/// A server that answers each path with fixed bytes, and writes down what it was asked.
struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

/// What is sent before the connection is closed; or left open.
#[derive(Clone)]
struct Script {
    bytes: Vec<u8>,
    stays: bool,
}

fn says(head: &str, body: &[u8]) -> Script {
    Script { bytes: [format!("HTTP/1.1 {head}\r\n\r\n").as_bytes(), body].concat(), stays: false }
}

fn moved(to: &str) -> Script {
    says(&format!("302 Found\r\nLocation: {to}\r\nContent-Length: 0"), b"")
}

fn medium() -> Script {
    says("200 OK\r\nContent-Type: image/png\r\nContent-Length: 7", b"content")
}

impl Server {
    async fn start(ip: &str, scripts: impl IntoIterator<Item = (&'static str, Script)>) -> Server {
        let scripts: HashMap<_, _> = scripts.into_iter().collect();
        let listener = TcpListener::bind((ip, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(answer(stream, scripts.clone(), seen.clone()));
            }
        });
        Server { address, requests, task }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn named(&self, host: &str, path: &str) -> String {
        format!("http://{host}:{}{path}", self.address.port())
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// The `Authorization` of each request.
    fn authorizations(&self) -> Vec<Option<String>> {
        let header = |request: &String| {
            let line = request.lines().find(|line| line.to_lowercase().starts_with("authorization:"))?;
            Some(line.split_once(':').unwrap().1.trim().to_owned())
        };
        self.requests().iter().map(header).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(mut stream: TcpStream, scripts: HashMap<&'static str, Script>, seen: Arc<Mutex<Vec<String>>>) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).await.unwrap_or(0) == 0 {
            return;
        }
        request.push(byte[0]);
    }
    let request = String::from_utf8(request).unwrap();
    let path = request.split(' ').nth(1).unwrap().to_owned();
    seen.lock().unwrap().push(request);
    let Some(script) = scripts.get(path.as_str()) else { return };
    stream.write_all(&script.bytes).await.unwrap();
    if script.stays {
        std::future::pending::<()>().await;
    }
}

/// Names with the addresses that a test gives them, one set after the other.
struct Names {
    sets: Vec<Vec<IpAddr>>,
    asked: AtomicUsize,
}

impl Names {
    fn new(sets: &[&[&str]]) -> Arc<Names> {
        let sets = sets.iter().map(|set| set.iter().map(|address| address.parse().unwrap()).collect()).collect();
        Arc::new(Names { sets, asked: AtomicUsize::new(0) })
    }
}

impl Resolve for Names {
    fn resolve(&self, _: Name) -> Resolving {
        let asked = self.asked.fetch_add(1, Ordering::SeqCst);
        let set = self.sets[asked.min(self.sets.len() - 1)].clone();
        Box::pin(async move { Ok(Box::new(set.into_iter().map(|ip| SocketAddr::new(ip, 0))) as Addrs) })
    }
}

/// 127.0.0.1 is allowed, and no time that a healthy exchange comes near runs out.
fn config() -> FetchConfig {
    FetchConfig {
        connect: Duration::from_secs(60),
        idle: Duration::from_secs(60),
        total: Duration::from_secs(300),
        allow: vec!["127.0.0.1/32".parse().unwrap()],
        ..FetchConfig::default()
    }
}

fn fetcher() -> Fetcher {
    Fetcher::new(config()).unwrap()
}

async fn whole(fetched: Fetched) -> Result<Vec<u8>, FetchError> {
    fetched
        .try_fold(Vec::new(), |mut all, piece| async move {
            all.extend_from_slice(&piece);
            Ok(all)
        })
        .await
}

async fn get(fetcher: &Fetcher, link: &str) -> Result<Vec<u8>, FetchError> {
    whole(fetcher.fetch(link, None).await?).await
}

fn is_private<T>(result: &Result<T, FetchError>) -> bool {
    matches!(result, Err(FetchError::PrivateAddress { .. }))
}

#[tokio::test]
async fn a_link_is_fetched_with_its_type_and_length() {
    let unmeasured = says("200 OK", b"content");
    let pieces = says("200 OK\r\nTransfer-Encoding: chunked", b"4\r\ncont\r\n3\r\nent\r\n0\r\n\r\n");
    let server = Server::start("127.0.0.1", [("/a?b=c%20d", medium()), ("/u", unmeasured), ("/p", pieces)]).await;
    let fetched = fetcher().fetch(&server.url("/a?b=c%20d#e"), None).await.unwrap();
    assert_eq!((fetched.length(), fetched.content_type()), (Some(7), Some("image/png")));
    assert_eq!(whole(fetched).await.unwrap(), b"content");
    for path in ["/u", "/p"] {
        let fetched = fetcher().fetch(&server.url(path), None).await.unwrap();
        assert_eq!((fetched.length(), fetched.content_type()), (None, None));
        assert_eq!(whole(fetched).await.unwrap(), b"content");
    }
    let request = server.requests()[0].to_lowercase();
    assert!(request.contains("accept-encoding: identity\r\n") && !request.contains("authorization"), "{request}");
}

#[tokio::test]
async fn private_networks_are_not_asked() {
    let server = Server::start("127.0.0.1", [("/", medium())]).await;
    let strict = Fetcher::new(FetchConfig { allow: Vec::new(), ..config() }).unwrap();
    for host in ["127.0.0.1", "127.1", "2130706433", "[::ffff:127.0.0.1]", "localhost", "LOCALHOST"] {
        let refused = get(&strict, &server.named(host, "/")).await;
        assert!(is_private(&refused), "{host}: {refused:?}");
        assert!(!refused.unwrap_err().may_pass());
    }
    assert!(server.requests().is_empty());
    // The same places, allowed.
    for host in ["127.0.0.1", "localhost"] {
        assert_eq!(get(&fetcher(), &server.named(host, "/")).await.unwrap(), b"content", "{host}");
    }
}

#[tokio::test]
async fn a_name_is_judged_by_the_addresses_it_leads_to() {
    let server = Server::start("127.0.0.1", [("/", medium())]).await;
    let link = server.named("media.example.com", "/");
    for addresses in [&["127.0.0.2"] as &[&str], &["10.0.0.1", "::1", "169.254.169.254"], &["::ffff:127.0.0.2"]] {
        let fetcher = Fetcher::with_names(config(), Names::new(&[addresses])).unwrap();
        let refused = get(&fetcher, &link).await;
        assert!(is_private(&refused), "{addresses:?}: {refused:?}");
        assert!(refused.unwrap_err().to_string().contains("media.example.com"));
    }
    // Only what is left of a mixture is connected to.
    let fetcher = Fetcher::with_names(config(), Names::new(&[&["127.0.0.2", "127.0.0.1"]])).unwrap();
    assert_eq!(get(&fetcher, &link).await.unwrap(), b"content");
    let nowhere = Fetcher::with_names(config(), Names::new(&[&[]])).unwrap();
    assert!(matches!(get(&nowhere, &link).await, Err(FetchError::Unreachable { .. })));
}

#[tokio::test]
async fn a_name_that_changes_its_address_gains_nothing() {
    let inner = Server::start("127.0.0.2", [("/", medium())]).await;
    let port = inner.address.port();
    // The same port at both addresses: the name leads to the allowed one first.
    let Ok(listener) = TcpListener::bind(("127.0.0.1", port)).await else { panic!("port {port} is taken") };
    tokio::spawn(async move {
        let scripts = HashMap::from([("/", moved("/")), ("/last", medium())]);
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(answer(stream, scripts.clone(), Arc::default()));
        }
    });
    let names = Names::new(&[&["127.0.0.1"], &["127.0.0.2"]]);
    let fetcher = Fetcher::with_names(config(), names.clone()).unwrap();
    let refused = get(&fetcher, &inner.named("media.example.com", "/")).await;
    assert!(is_private(&refused), "{refused:?}");
    assert!(names.asked.load(Ordering::SeqCst) == 2 && inner.requests().is_empty());
}

#[tokio::test]
async fn a_redirect_does_not_lead_into_a_private_network() {
    let inner = Server::start("127.0.0.2", [("/", medium())]).await;
    let inner_url: &'static str = inner.url("/").leak();
    let server = Server::start(
        "127.0.0.1",
        [
            ("/inner", moved(inner_url)),
            ("/scheme", moved(inner_url.strip_prefix("http:").unwrap())),
            ("/metadata", moved("http://169.254.169.254/latest/meta-data/")),
            ("/mapped", moved("http://[::ffff:169.254.169.254]/")),
            ("/twice", moved("/inner")),
        ],
    )
    .await;
    for path in ["/inner", "/scheme", "/metadata", "/mapped", "/twice"] {
        let refused = get(&fetcher(), &server.url(path)).await;
        assert!(is_private(&refused), "{path}: {refused:?}");
    }
    assert!(inner.requests().is_empty());
    let mut wide = config();
    wide.allow.push("127.0.0.2".parse().unwrap());
    assert_eq!(get(&Fetcher::new(wide).unwrap(), &server.url("/twice")).await.unwrap(), b"content");
}

#[tokio::test]
async fn redirects_are_followed_so_far_and_no_farther() {
    let server = Server::start(
        "127.0.0.1",
        [
            ("/0", moved("1")),
            ("/1", moved("/2")),
            ("/2", says("308 Permanent Redirect\r\nLocation: ?3\r\nContent-Length: 0", b"")),
            ("/2?3", medium()),
            ("/round", moved("/round")),
            ("/file", moved("file:///etc/passwd")),
            ("/user", moved("http://user:word@127.0.0.1/")),
            ("/lost", says("302 Found\r\nContent-Length: 0", b"")),
        ],
    )
    .await;
    assert_eq!(get(&fetcher(), &server.url("/0")).await.unwrap(), b"content");
    let short = Fetcher::new(FetchConfig { max_redirects: 2, ..config() }).unwrap();
    assert_eq!(get(&short, &server.url("/0")).await, Err(FetchError::TooManyRedirects { most: 2 }));
    let before = server.requests().len();
    assert_eq!(get(&fetcher(), &server.url("/round")).await, Err(FetchError::TooManyRedirects { most: 5 }));
    assert_eq!(server.requests().len() - before, 6);
    for path in ["/file", "/user", "/lost"] {
        let refused = get(&fetcher(), &server.url(path)).await;
        assert!(matches!(refused, Err(FetchError::BadLink { .. })), "{path}: {refused:?}");
    }
}

#[tokio::test]
async fn credentials_stay_with_the_server_they_are_for() {
    let bearer = Credentials::Bearer(Secret::new("the-token".to_owned()));
    let basic = Credentials::Basic { username: "Aladdin".to_owned(), password: Secret::new("open sesame".to_owned()) };
    assert!(!format!("{bearer:?} {basic:?}").contains("the-token") && !format!("{basic:?}").contains("sesame"));
    let other = Server::start("127.0.0.1", [("/", medium())]).await;
    let other_url: &'static str = other.url("/").leak();
    let here = [("/a", medium()), ("/b", moved("/a")), ("/c", moved(other_url))];
    let server = Server::start("127.0.0.1", here).await;
    // RFC 7617, section 2.
    for (credentials, header) in [(&bearer, "Bearer the-token"), (&basic, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")] {
        for (path, count) in [("/a", 1), ("/b", 2), ("/c", 1)] {
            let before = server.requests().len();
            let fetched = fetcher().fetch(&server.url(path), Some(credentials)).await.unwrap();
            assert_eq!(whole(fetched).await.unwrap(), b"content");
            assert_eq!(server.authorizations()[before..], vec![Some(header.to_owned()); count], "{path}");
        }
    }
    assert_eq!(other.authorizations(), [None, None]);
}

#[tokio::test]
async fn credentials_do_not_come_back_from_elsewhere() {
    // A server that is asked may name any path of the provider's: not one that is asked with its credentials.
    let server = Server::start("127.0.0.1", [("/back", medium())]).await;
    let back: &'static str = server.url("/back").leak();
    let elsewhere = Server::start("127.0.0.1", [("/", moved(back))]).await;
    let there: &'static str = elsewhere.url("/").leak();
    let first = Server::start("127.0.0.1", [("/", moved(there))]).await;
    let credentials = Credentials::Bearer(Secret::new("the-token".to_owned()));
    let fetched = fetcher().fetch(&first.url("/"), Some(&credentials)).await.unwrap();
    assert_eq!(whole(fetched).await.unwrap(), b"content");
    assert_eq!(first.authorizations(), [Some("Bearer the-token".to_owned())]);
    assert_eq!((elsewhere.authorizations(), server.authorizations()), (vec![None], vec![None]));
}

#[tokio::test]
async fn a_medium_that_is_too_large_is_not_read() {
    let told = says("200 OK\r\nContent-Length: 8", b"contents");
    let untold = says("200 OK", b"contents");
    let pieces = says("200 OK\r\nTransfer-Encoding: chunked", b"4\r\ncont\r\n4\r\nents\r\n0\r\n\r\n");
    let server = Server::start("127.0.0.1", [("/t", told), ("/u", untold), ("/p", pieces), ("/fits", medium())]).await;
    let small = Fetcher::new(FetchConfig { max_bytes: 7, ..config() }).unwrap();
    for path in ["/t", "/u", "/p"] {
        assert_eq!(get(&small, &server.url(path)).await, Err(FetchError::TooLarge { most: 7 }), "{path}");
    }
    assert!(small.fetch(&server.url("/t"), None).await.is_err(), "refused before the first byte");
    assert_eq!(get(&small, &server.url("/fits")).await.unwrap(), b"content");
}

#[tokio::test]
async fn a_medium_that_is_cut_is_none() {
    let told = says("200 OK\r\nContent-Length: 8", b"content");
    let pieces = says("200 OK\r\nTransfer-Encoding: chunked", b"7\r\ncontent\r\n");
    let head = says("200 OK\r\nContent-", b"");
    let server = Server::start("127.0.0.1", [("/t", told), ("/p", pieces), ("/h", head)]).await;
    for path in ["/t", "/p", "/h", "/nothing"] {
        let cut = get(&fetcher(), &server.url(path)).await;
        assert!(matches!(cut, Err(FetchError::Unreachable { .. })), "{path}: {cut:?}");
        assert!(cut.unwrap_err().may_pass());
    }
}

#[tokio::test]
async fn other_answers_are_told_by_their_status() {
    let server = Server::start(
        "127.0.0.1",
        [
            ("/404", says("404 Not Found\r\nContent-Length: 0", b"")),
            ("/503", says("503 Service Unavailable\r\nRetry-After: 9\r\nContent-Length: 0", b"")),
            ("/206", says("206 Partial Content\r\nContent-Length: 7", b"content")),
            ("/gzip", says("200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 7", b"content")),
        ],
    )
    .await;
    let status = |status, retry_after| FetchError::Status { status, retry_after };
    for (path, error, may_pass) in [
        ("/404", status(404, None), false),
        ("/503", status(503, Some(Duration::from_secs(9))), true),
        ("/206", status(206, None), false),
        ("/gzip", FetchError::Encoded, false),
    ] {
        let told = get(&fetcher(), &server.url(path)).await.unwrap_err();
        assert_eq!((told.may_pass(), told), (may_pass, error), "{path}");
    }
}

#[tokio::test]
async fn a_server_that_is_slow_is_given_up() {
    let short = Duration::from_millis(300);
    let stays = |head: &str, body| Script { stays: true, ..says(head, body) };
    let server = Server::start(
        "127.0.0.1",
        [
            ("/body", stays("200 OK\r\nContent-Length: 8", b"content")),
            ("/head", Script { bytes: b"HTTP/1.1 200 OK\r\n".to_vec(), stays: true }),
            ("/moved", moved("/body")),
        ],
    )
    .await;
    let idle = Fetcher::new(FetchConfig { idle: short, ..config() }).unwrap();
    let total = Fetcher::new(FetchConfig { total: short, ..config() }).unwrap();
    for (fetcher, path) in [(&idle, "/body"), (&total, "/body"), (&total, "/head"), (&total, "/moved")] {
        let slow = get(fetcher, &server.url(path)).await;
        assert!(matches!(slow, Err(FetchError::TooSlow { .. })), "{path}: {slow:?}");
        assert!(slow.unwrap_err().may_pass());
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_may_be_asked_again() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for link in [format!("http://{gone}/"), "http://media.invalid/".to_owned()] {
        let failed = get(&fetcher(), &link).await;
        assert!(matches!(failed, Err(FetchError::Unreachable { .. })), "{link}: {failed:?}");
        assert!(!failed.unwrap_err().to_string().contains(&link));
    }
}
