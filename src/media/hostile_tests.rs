//! Bytes that lie: cut, flipped, swollen, nested; and a reader that fails.

use std::io::{self, Cursor, Read, Seek, SeekFrom};

use super::sample_tests::{Sample, samples};
use super::{Facts, Kind, Reason, SNIFF_BYTES, Verdict, inspect, limit, sniff};

/// A medium of any length: some bytes, then zeros without end.
pub(super) struct Padded {
    head: Vec<u8>,
    at: u64,
}

impl Padded {
    pub fn new(head: &[u8]) -> Padded {
        Padded { head: head.to_vec(), at: 0 }
    }
}

impl Read for Padded {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        buf.fill(0);
        let start = usize::try_from(self.at).unwrap().min(self.head.len());
        let mut head = &self.head[start..];
        let _ = head.read(buf)?;
        self.at += buf.len() as u64;
        Ok(buf.len())
    }
}

impl Seek for Padded {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let SeekFrom::Start(at) = to else { panic!("only absolute places are asked for") };
        self.at = at;
        Ok(at)
    }
}

/// What is said of these bytes, whatever their name.
fn facts(bytes: &[u8]) -> Facts {
    inspect(Cursor::new(bytes), bytes.len() as u64, None).unwrap()
}

/// Why these bytes are refused, if they are.
pub(super) fn reason(bytes: &[u8]) -> Option<Reason> {
    match facts(bytes).verdict {
        Verdict::Ready => None,
        Verdict::Unfit(reason) => Some(reason),
    }
}

/// Asks all that can be asked of these bytes, and that the answers fit together.
pub(super) fn agrees(bytes: &[u8]) {
    let _ = sniff(&bytes[..bytes.len().min(SNIFF_BYTES)], bytes.len() as u64, None);
    let found = facts(bytes);
    assert_eq!(super::kind_of(&found.mime), found.kind);
    assert_eq!(Verdict::from_code(found.verdict.code()), Some(found.verdict));
}

#[test]
fn media_cut_at_any_length_get_an_answer() {
    for sample in samples() {
        let step = (sample.bytes.len() / 97).max(1);
        let lengths = (0..sample.bytes.len().min(160)).chain((160..sample.bytes.len()).step_by(step));
        for len in lengths {
            agrees(&sample.bytes[..len]);
        }
    }
}

#[test]
fn media_with_a_flipped_byte_get_an_answer() {
    for sample in samples() {
        let mut bytes = sample.bytes;
        let step = (bytes.len() / 61).max(1);
        let last = bytes.len().saturating_sub(64);
        let places = (0..bytes.len().min(96)).chain((96..bytes.len()).step_by(step)).chain(last..bytes.len());
        for at in places {
            for mask in [0x01, 0x80, 0xFF] {
                bytes[at] ^= mask;
                agrees(&bytes);
                bytes[at] ^= mask;
            }
        }
    }
}

#[test]
fn the_index_of_a_film_with_any_byte_flipped_gets_an_answer() {
    for sample in samples().into_iter().filter(|sample| sample.path == "video/h264-aac.mp4") {
        let mut bytes = sample.bytes;
        for at in 0..3100 {
            for mask in [0x01, 0xFF] {
                bytes[at] ^= mask;
                agrees(&bytes);
                bytes[at] ^= mask;
            }
        }
    }
}

#[test]
fn pictures_and_films_and_voice_notes_cut_short_are_damaged() {
    let rows_of_frames = ["audio/aac", "audio/amr", "audio/mpeg"];
    for Sample { path, bytes, expected } in samples() {
        let is_checked = expected.kind != Kind::Document && !rows_of_frames.contains(&&*expected.mime);
        if is_checked && expected.verdict == Verdict::Ready {
            for missing in [1, 100, bytes.len() / 2] {
                let cut = &bytes[..bytes.len() - missing];
                assert_eq!(reason(cut), Some(Reason::Damaged), "{path} - {missing}");
            }
        }
    }
}

#[test]
fn rows_of_frames_may_end_within_a_frame_but_need_a_whole_one() {
    for sample in samples() {
        if ["audio/aac", "audio/amr", "audio/mpeg"].contains(&sample.expected.mime.as_str()) {
            assert_eq!(reason(&sample.bytes[..sample.bytes.len() - 5]), None, "{}", sample.path);
            assert_eq!(reason(&sample.bytes[..18]), Some(Reason::Damaged), "{}", sample.path);
        }
    }
}

#[test]
fn a_medium_is_too_large_one_byte_past_its_kinds_limit() {
    for sample in samples() {
        let Facts { kind, verdict, .. } = sample.expected;
        let is_telling = kind != Kind::Document && verdict == Verdict::Ready;
        if is_telling && !sample.bytes.is_empty() {
            let len = limit(kind) + 1;
            let found = inspect(Padded::new(&sample.bytes), len, None).unwrap();
            assert_eq!(found.kind, kind, "{}", sample.path);
            assert_eq!(found.verdict, Verdict::Unfit(Reason::TooLarge), "{}", sample.path);
        }
    }
    for (len, expected) in
        [(0, Verdict::Ready), (1, Verdict::Unfit(Reason::TooLarge))].map(|(n, v)| (limit(Kind::Document) + n, v))
    {
        let found = inspect(Padded::new(b"%PDF-1.7\n"), len, None).unwrap();
        assert_eq!(found.verdict, expected);
    }
}

#[test]
fn a_huge_medium_is_answered_from_a_few_pages() {
    for sample in samples().iter().filter(|sample| !sample.bytes.is_empty()) {
        let found = inspect(Padded::new(&sample.bytes), 1 << 50, None).unwrap();
        assert_eq!(found.verdict, Verdict::Unfit(Reason::TooLarge), "{}", sample.path);
    }
}

#[test]
fn a_failing_reader_is_an_error_and_no_verdict() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::from_raw_os_error(libc::EIO))
        }
    }
    impl Seek for Failing {
        fn seek(&mut self, _: SeekFrom) -> io::Result<u64> {
            Ok(0)
        }
    }
    let error = inspect(Failing, 5000, None).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    for sample in samples().iter().filter(|sample| sample.bytes.len() > 70_000) {
        let reader = io::Cursor::new(&sample.bytes[..65_536]);
        let chained = HalfFailing { reader, at: 0 };
        let error = inspect(chained, sample.bytes.len() as u64, None).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EIO), "{}", sample.path);
    }
}

/// Gives its first 64 KiB and fails behind them.
struct HalfFailing<'a> {
    reader: Cursor<&'a [u8]>,
    at: u64,
}

impl Read for HalfFailing<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.at >= 65_536 {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        self.reader.read(buf)
    }
}

impl Seek for HalfFailing<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.at = self.reader.seek(to)?;
        Ok(self.at)
    }
}

#[test]
fn tags_that_lead_in_circles_or_far_away_get_an_answer() {
    agrees(&b"ID3\x04\0\0\0\0\0\0".repeat(100_000));
    agrees(b"ID3\x04\0\0\x7F\x7F\x7F\x7F");
    agrees(&b"\xFF\xFB".repeat(50_000));
}

#[test]
fn archives_whose_entries_claim_gigabytes_get_an_answer() {
    let mut bytes =
        b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x08\0\0\0mimetype".to_vec();
    bytes.extend_from_slice(b"PK\x01\x02");
    bytes.extend_from_slice(&[0xFF; 60]);
    bytes.extend_from_slice(b"PK\x05\x06");
    bytes.extend_from_slice(&[0xFF; 18]);
    assert_eq!(facts(&bytes).mime, "application/zip");
}

#[test]
fn noise_gets_an_answer() {
    // A linear congruence is noise enough and the same on every run.
    let mut state = 1u64;
    for len in 0..600 {
        let noise = (0..len).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_be_bytes()[0]
        });
        agrees(&noise.collect::<Vec<u8>>());
    }
}
