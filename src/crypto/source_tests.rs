use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

fn file_with(content: &[u8]) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secret");
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    (directory, path)
}

fn passphrase_of(content: &[u8]) -> Result<Vec<u8>> {
    let (_directory, path) = file_with(content);
    KeySource::passphrase_file(&path).map(|source| source.secret().expose().to_vec())
}

fn key_of(content: &[u8]) -> Result<Vec<u8>> {
    let (_directory, path) = file_with(content);
    KeySource::key_file(&path).map(|source| source.secret().expose().to_vec())
}

#[test]
fn a_passphrase_is_the_first_line_of_its_file() {
    for content in [&b"open sesame"[..], b"open sesame\n", b"open sesame\r\n", b"open sesame\nsecond line\n"] {
        assert_eq!(passphrase_of(content).unwrap(), b"open sesame");
    }
    assert_eq!(passphrase_of(b" spaces stay \n").unwrap(), b" spaces stay ");
    assert_eq!(passphrase_of(b"\xff\x00\n").unwrap(), b"\xff\x00");
}

#[test]
fn an_empty_passphrase_is_refused() {
    for content in [&b""[..], b"\n", b"\r\n", b"\nsecond line\n"] {
        assert_eq!(passphrase_of(content).err().unwrap().kind(), Kind::Invalid);
    }
}

#[test]
fn a_passphrase_file_is_bounded() {
    let longest = vec![b'x'; MAX_PASSPHRASE_BYTES];
    assert_eq!(passphrase_of(&longest[1..]).unwrap().len(), MAX_PASSPHRASE_BYTES - 1);
    assert_eq!(passphrase_of(&longest).unwrap().len(), MAX_PASSPHRASE_BYTES);
    let too_long = [&longest[..], b"x"].concat();
    assert_eq!(passphrase_of(&too_long).err().unwrap().kind(), Kind::Invalid);
    assert_eq!(KeySource::passphrase_file(Path::new("/dev/zero")).err().unwrap().kind(), Kind::Invalid);
}

#[test]
fn a_key_is_32_raw_bytes_or_64_hex_digits() {
    let raw: Vec<u8> = (200..232).collect();
    assert_eq!(key_of(&raw).unwrap(), raw);
    let hex: String = raw.iter().map(|byte| format!("{byte:02x}")).collect();
    for text in [hex.clone(), format!("{hex}\n"), format!(" {hex}\r\n\n"), hex.to_uppercase()] {
        assert_eq!(key_of(text.as_bytes()).unwrap(), raw);
    }
}

#[test]
fn anything_else_is_no_key() {
    let hex = "c8".repeat(32);
    let refused: [(&str, Vec<u8>); 9] = [
        ("empty", vec![]),
        ("31 bytes", vec![200; 31]),
        ("33 bytes", vec![200; 33]),
        ("a raw key and a newline", [&[200; 32][..], b"\n"].concat()),
        ("63 hex digits", hex.as_bytes()[1..].to_vec()),
        ("a digit that is none", hex.replacen('c', "g", 1).into_bytes()),
        ("32 characters of text", b"correct horse battery staple 123".to_vec()),
        ("zeros", vec![0; 32]),
        ("zeros in hex", vec![b'0'; 64]),
    ];
    for (name, content) in refused {
        let refusal = key_of(&content).err().unwrap_or_else(|| panic!("{name} was taken for a key"));
        assert_eq!(refusal.kind(), Kind::Invalid, "{name}");
        assert!(refusal.to_string().contains("key file"), "{refusal}");
    }
}

#[test]
fn a_made_key_file_is_private_and_can_be_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    make_key_file(&path).unwrap();
    let content = fs::read(&path).unwrap();
    assert_eq!(content.len(), 65);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    let source = KeySource::key_file(&path).unwrap();
    assert_eq!(source.kind(), SlotKind::KeyFile);
    assert_eq!(source.secret().expose().len(), 32);
    assert_eq!(make_key_file(&path).unwrap_err().kind(), Kind::Exists);
    assert_eq!(fs::read(&path).unwrap(), content);
}

#[test]
fn a_key_file_is_never_made_through_a_link() {
    let directory = tempfile::tempdir().unwrap();
    let (link, target) = (directory.path().join("link"), directory.path().join("target"));
    symlink(&target, &link).unwrap();
    assert_eq!(make_key_file(&link).unwrap_err().kind(), Kind::Exists);
    assert!(!target.exists());
}

#[test]
fn a_credential_is_found_by_name_in_its_directory_alone() {
    let (directory, _) = file_with(&[201; 32]);
    let source = KeySource::credential_in(directory.path(), "secret").unwrap();
    assert_eq!(source.kind(), SlotKind::Credential);
    assert_eq!(source.to_string(), "credential secret");
    assert_eq!(KeySource::credential_in(directory.path(), "other").err().unwrap().kind(), Kind::NotFound);
    for name in ["", ".", "..", "../secret", "/etc/passwd", "a\0b"] {
        assert_eq!(KeySource::credential_in(directory.path(), name).err().unwrap().kind(), Kind::Invalid);
    }
}

#[test]
fn only_a_file_that_others_may_read_is_warned_of() {
    let (_directory, path) = file_with(b"x");
    for (mode, exposed) in [(0o600, false), (0o400, false), (0o620, false), (0o640, true), (0o604, true), (0o644, true)]
    {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(exposed_mode(&fs::metadata(&path).unwrap()), exposed.then_some(mode));
    }
    assert_eq!(exposed_mode(&fs::metadata("/dev/null").unwrap()), None);
}

#[test]
fn a_missing_file_is_named() {
    let failure = KeySource::key_file(Path::new("/nowhere/key")).err().unwrap();
    assert_eq!(failure.kind(), Kind::NotFound);
    assert!(failure.to_string().contains("/nowhere/key"));
}
