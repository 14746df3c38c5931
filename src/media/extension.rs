//! File extensions of MIME types.

use file_format::FileFormat;

/// Where the usual extension is not the first that a table of formats gives, and types clients write differently.
const EXTENSIONS: [(&str, &str); 45] = [
    ("audio/aac", "aac"),
    ("audio/amr", "amr"),
    ("audio/amr-wb", "awb"),
    ("audio/mp4", "m4a"),
    ("audio/mpeg", "mp3"),
    ("audio/mp3", "mp3"),
    ("audio/ogg", "ogg"),
    ("audio/opus", "opus"),
    ("audio/wav", "wav"),
    ("audio/x-wav", "wav"),
    ("audio/3gpp", "3gp"),
    ("audio/webm", "webm"),
    ("image/jpeg", "jpg"),
    ("image/jpg", "jpg"),
    ("image/png", "png"),
    ("image/webp", "webp"),
    ("image/x-icon", "ico"),
    ("video/3gpp", "3gp"),
    ("video/matroska", "mkv"),
    ("video/mp4", "mp4"),
    ("video/ogg", "ogv"),
    ("video/quicktime", "mov"),
    ("video/x-matroska", "mkv"),
    ("application/java-archive", "jar"),
    ("application/json", "json"),
    ("application/msword", "doc"),
    ("application/octet-stream", "bin"),
    ("application/sql", "sql"),
    ("application/toml", "toml"),
    ("application/vnd.ms-excel", "xls"),
    ("application/vnd.microsoft.portable-executable", "exe"),
    ("application/vnd.ms-outlook", "msg"),
    ("application/vnd.ms-powerpoint", "ppt"),
    ("application/x-empty", "bin"),
    ("application/x-zip-compressed", "zip"),
    ("application/xml", "xml"),
    ("application/yaml", "yaml"),
    ("application/zip", "zip"),
    ("message/rfc822", "eml"),
    ("text/css", "css"),
    ("text/csv", "csv"),
    ("text/javascript", "js"),
    ("text/markdown", "md"),
    ("text/plain", "txt"),
    ("text/tab-separated-values", "tsv"),
];

/// The file extension of a MIME type, without the dot, lower case; `bin` when none is known. Parameters, case and
/// blanks do not count.
#[must_use]
pub fn extension(mime: &str) -> &'static str {
    let base = mime.split(';').next().unwrap_or_default().trim();
    let usual = EXTENSIONS.iter().find(|(known, _)| base.eq_ignore_ascii_case(known));
    match usual {
        Some(&(_, extension)) => extension,
        None => FileFormat::from_media_type(base).first().map_or("bin", FileFormat::extension),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_its_usual_extension() {
        for (mime, expected) in [
            ("image/jpeg", "jpg"),
            ("Audio/OGG; codecs=opus", "ogg"),
            ("audio/mp4", "m4a"),
            ("video/3gpp", "3gp"),
            ("application/pdf", "pdf"),
            ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", "docx"),
            ("image/svg+xml", "svg"),
            ("text/html", "html"),
            ("text/vcard", "vcf"),
            ("application/x-nobody-knows", "bin"),
            ("", "bin"),
            ("../../etc/passwd", "bin"),
        ] {
            assert_eq!(extension(mime), expected, "{mime}");
        }
    }
}
