//! Whether WhatsApp would take a medium, and if not, why.

use std::fmt;

/// Why WhatsApp would refuse a medium as its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// It has no bytes.
    Empty,
    /// Its bytes are not what its type asks for, or end too early.
    Damaged,
    /// It is larger than its kind may be.
    TooLarge,
    /// A PNG with at least one pixel that is not opaque.
    TransparentBackground,
    /// A WebP with the animation mark.
    AnimatedSticker,
    /// An Opus file with other than one channel.
    NotSingleChannel,
    /// A video track that is not H.264.
    VideoCodecNotH264,
    /// A video's audio track that is not AAC.
    AudioCodecNotAac,
    /// A video with several audio tracks.
    MoreThanOneAudioStream,
    /// A PNG with transparency that unpacks to more pixels than can be looked at.
    TooManyPixels,
}

impl Reason {
    /// Every reason, in the order of their codes.
    pub const ALL: [Reason; 10] = [
        Reason::Empty,
        Reason::Damaged,
        Reason::TooLarge,
        Reason::TransparentBackground,
        Reason::AnimatedSticker,
        Reason::NotSingleChannel,
        Reason::VideoCodecNotH264,
        Reason::AudioCodecNotAac,
        Reason::MoreThanOneAudioStream,
        Reason::TooManyPixels,
    ];

    /// The reason in lower case words joined by hyphens, for people and programs alike.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Empty => "empty",
            Reason::Damaged => "damaged",
            Reason::TooLarge => "too-large",
            Reason::TransparentBackground => "transparent-background",
            Reason::AnimatedSticker => "animated-sticker",
            Reason::NotSingleChannel => "not-single-channel",
            Reason::VideoCodecNotH264 => "video-codec-not-h264",
            Reason::AudioCodecNotAac => "audio-codec-not-aac",
            Reason::MoreThanOneAudioStream => "more-than-one-audio-stream",
            Reason::TooManyPixels => "too-many-pixels",
        }
    }

    /// The number that stands for this reason in an index; it never changes and is never 0.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Reason::Empty => 1,
            Reason::Damaged => 2,
            Reason::TooLarge => 3,
            Reason::TransparentBackground => 4,
            Reason::AnimatedSticker => 5,
            Reason::NotSingleChannel => 6,
            Reason::VideoCodecNotH264 => 7,
            Reason::AudioCodecNotAac => 8,
            Reason::MoreThanOneAudioStream => 9,
            Reason::TooManyPixels => 10,
        }
    }

    /// The reason a number stands for; 0 and numbers that were never given out are `None`.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Reason> {
        Reason::ALL.into_iter().find(|reason| reason.code() == code)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether WhatsApp would take a medium as its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It would.
    Ready,
    /// It would refuse it for this reason. Stored and served it is nevertheless.
    Unfit(Reason),
}

impl Verdict {
    /// The number that stands for this verdict in an index: 0 when ready, else the reason's.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Verdict::Ready => 0,
            Verdict::Unfit(reason) => reason.code(),
        }
    }

    /// The verdict a number stands for; one that was never given out is `None`.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Verdict> {
        match code {
            0 => Some(Verdict::Ready),
            _ => Reason::from_code(code).map(Verdict::Unfit),
        }
    }
}

impl From<Option<Reason>> for Verdict {
    fn from(reason: Option<Reason>) -> Verdict {
        reason.map_or(Verdict::Ready, Verdict::Unfit)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Ready => f.write_str("ready"),
            Verdict::Unfit(reason) => write!(f, "unfit: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_verdicts_lead_back_to_them() {
        for reason in Reason::ALL {
            assert_eq!(Reason::from_code(reason.code()), Some(reason));
            let verdict = Verdict::Unfit(reason);
            assert_eq!(Verdict::from_code(verdict.code()), Some(verdict));
        }
        assert_eq!(Verdict::from_code(0), Some(Verdict::Ready));
        assert_eq!(Reason::from_code(0), None);
        assert_eq!(Verdict::from_code(200), None);
    }

    #[test]
    fn verdicts_read_as_a_word_or_a_word_with_its_reason() {
        assert_eq!(Verdict::Ready.to_string(), "ready");
        assert_eq!(Verdict::Unfit(Reason::TransparentBackground).to_string(), "unfit: transparent-background");
    }
}
