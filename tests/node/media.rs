//! What is uploaded is a file, what is a file is served, byte for byte.

use std::fs;

use reqwest::{Method, StatusCode};
use sha2::{Digest, Sha256};

use crate::served::Served;
use crate::support::machine::can_mount;
use crate::support::{samples, tree};

#[test]
fn every_sample_is_uploaded_found_in_the_mount_and_given_back() {
    if !can_mount("every_sample_is_uploaded_found_in_the_mount_and_given_back") {
        return;
    }
    let served = Served::start(&["--quota", "1GiB"], &[]);
    let mut ids = Vec::new();
    for sample in samples::all() {
        let id = served.upload(&sample.mime, &sample.bytes);
        assert!(fs::read(served.file_of(&id)).unwrap() == sample.bytes, "{} in the mount", sample.path);
        let answer = served.get(&format!("/v1/media/{id}"));
        assert_eq!(answer.status(), StatusCode::OK);
        let header = |name: &str| answer.headers().get(name).map(|v| v.to_str().unwrap().to_owned());
        assert_eq!(header("content-type").as_deref(), Some(sample.mime.as_str()), "{}", sample.path);
        assert_eq!(header("content-length"), Some(sample.bytes.len().to_string()));
        let digest = tree::hex(&Sha256::digest(&sample.bytes));
        assert_eq!(header("etag"), Some(format!("\"{digest}\"")), "{}", sample.path);
        assert!(answer.bytes().unwrap() == sample.bytes[..], "{} over HTTP", sample.path);
        ids.push((id, sample));
    }
    let info = served.place.run(&["ls", "--json", served.mounted.root().to_str().unwrap()]).json_lines();
    assert_eq!(info.len(), ids.len());
    for (id, sample) in &ids {
        let medium = info.iter().find(|medium| medium["id"] == id.as_str()).unwrap();
        assert_eq!(medium["mime_type"], sample.mime.as_str());
        assert_eq!(medium["verdict"], sample.verdict.as_str(), "{}", sample.path);
    }
    served.mounted.unmount();
}

#[test]
fn a_file_of_the_mount_is_served_and_what_is_removed_either_way_is_gone_both_ways() {
    if !can_mount("a_file_of_the_mount_is_served_and_what_is_removed_either_way_is_gone_both_ways") {
        return;
    }
    let served = Served::start(&[], &[]);
    let [split, flat] = ["463eb7ec-ff4e-4d9b-b110-1879cbd411b2", "0fa07a51-09c1-4d84-a1a4-3f1b1a61be44"];
    fs::create_dir_all(served.file_of(split).parent().unwrap()).unwrap();
    let bytes = samples::all().into_iter().find(|sample| sample.path == "image/photo.jpg").unwrap().bytes;
    fs::write(served.file_of(split), &bytes).unwrap();
    fs::write(served.mounted.path(format!("shared/{flat}")), &bytes).unwrap();
    for id in [split, flat] {
        let answer = served.get(&format!("/v1/media/{id}/"));
        assert_eq!(answer.headers()["content-type"], "image/jpeg");
        assert!(answer.bytes().unwrap() == bytes[..]);
    }
    fs::remove_file(served.file_of(split)).unwrap();
    let gone = served.get(&format!("/v1/media/{split}"));
    assert_eq!((gone.status(), gone.bytes().unwrap().len()), (StatusCode::NOT_FOUND, 0), "404 has no body");

    let removed = served.ask(Method::DELETE, &format!("/v1/media/{flat}")).send().unwrap();
    assert_eq!(removed.status(), StatusCode::OK);
    assert!(!served.mounted.path(format!("shared/{flat}")).exists());
    assert_eq!(served.get(&format!("/v1/media/{flat}")).status(), StatusCode::NOT_FOUND);
    for method in [Method::GET, Method::DELETE, Method::HEAD] {
        for unknown in [flat, "no-uuid", "%ff%fe", "..%2f..%2fetc%2fpasswd"] {
            let answer = served.ask(method.clone(), &format!("/v1/media/{unknown}")).send().unwrap();
            assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{method} {unknown}");
        }
    }
    served.mounted.unmount();
}

#[test]
fn parts_tags_and_heads_are_as_the_standard_says() {
    if !can_mount("parts_tags_and_heads_are_as_the_standard_says") {
        return;
    }
    let served = Served::start(&[], &[]);
    let bytes: Vec<u8> = (0..3_000_017u32).map(|n| (n % 251) as u8).collect();
    let id = served.upload("application/x-test", &bytes);
    let path = format!("/v1/media/{id}");
    let part = |range: &str| served.ask(Method::GET, &path).header("range", range).send().unwrap();
    for (range, from, to) in
        [("bytes=0-0", 0, 1), ("bytes=65535-65537", 65535, 65538), ("bytes=-7", 3_000_010, 3_000_017)]
    {
        let answer = part(range);
        assert_eq!(answer.status(), StatusCode::PARTIAL_CONTENT);
        assert_eq!(answer.headers()["content-range"], format!("bytes {from}-{}/3000017", to - 1));
        assert!(answer.bytes().unwrap() == bytes[from..to], "{range}");
    }
    let beyond = part("bytes=3000017-");
    assert_eq!(beyond.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(beyond.headers()["content-range"], "bytes */3000017");

    let head = served.ask(Method::HEAD, &path).send().unwrap();
    assert_eq!((head.status(), head.headers()["content-length"].to_str().unwrap()), (StatusCode::OK, "3000017"));
    let tag = head.headers()["etag"].clone();
    let known = served.ask(Method::GET, &path).header("if-none-match", tag.clone()).send().unwrap();
    assert_eq!((known.status(), known.headers()["etag"].clone()), (StatusCode::NOT_MODIFIED, tag.clone()));
    let other = served.ask(Method::GET, &path).header("if-match", "\"00\"").send().unwrap();
    assert_eq!(other.status(), StatusCode::PRECONDITION_FAILED);
    let stale =
        served.ask(Method::GET, &path).header("range", "bytes=0-0").header("if-range", "\"00\"").send().unwrap();
    assert_eq!(stale.status(), StatusCode::OK, "a part of another medium is of no use");
    served.mounted.unmount();
}

#[test]
fn strict_refuses_what_whatsapp_would_and_says_why() {
    if !can_mount("strict_refuses_what_whatsapp_would_and_says_why") {
        return;
    }
    let served = Served::start(&[], &["--strict", "--created-status", "200"]);
    let mut refused = 0;
    for sample in samples::all() {
        let answer = served.try_upload(&sample.mime, &sample.bytes);
        match sample.verdict.strip_prefix("unfit: ") {
            None => assert_eq!(answer.status(), StatusCode::OK, "{}", sample.path),
            Some(_) if answer.status() == StatusCode::PAYLOAD_TOO_LARGE => refused += 1,
            Some(reason) => {
                let (status, code, details) = crate::served::fault_of(answer);
                assert_eq!((status, code), (StatusCode::BAD_REQUEST, 1009), "{}: {details}", sample.path);
                assert!(details.contains(reason), "{}: {details}", sample.path);
                refused += 1;
            }
        }
    }
    assert!(refused > 5, "only {refused} samples were refused");
    let photo = fs::read(samples::dir().join("image/photo.jpg")).unwrap();
    let (status, ..) = crate::served::fault_of(served.try_upload("video/mp4", &photo));
    assert_eq!(status, StatusCode::BAD_REQUEST, "a photo is no video");
    served.mounted.unmount();
}
