//! PNG: whether the picture is whole, and whether any of it is transparent.

use std::io::{Read, Seek, SeekFrom};

use ::png::{ColorType, Decoder, DecodingError, Limits, Reader, Transformations};

use super::shield::shield;
use super::verdict::Reason;
use super::window::Window;

/// The most pixels that are unpacked in search of a transparent one: about half a second's work.
const MAX_PIXELS: u64 = 50_000_000;

/// The widest picture that is unpacked; a row of it takes 8 MiB at most.
const MAX_WIDTH: u32 = 1 << 20;

/// What the decoder may allocate beside its row buffers.
const DECODER_BYTES: usize = 32 * 1024 * 1024;

/// `Damaged` unless every chunk is there with the right checksum, `TransparentBackground` when a pixel is not
/// opaque. Pictures that can have no such pixel are checked but not unpacked. Of an animation, the still picture
/// that other programs show is the one looked at.
pub(super) fn fault<R: Read + Seek>(window: &mut Window<R>) -> Option<Reason> {
    shield(|| examine(window)).unwrap_or(Some(Reason::Damaged))
}

fn examine<R: Read + Seek>(window: &mut Window<R>) -> Option<Reason> {
    // Seeking within the window can not fail.
    let _ = window.seek(SeekFrom::Start(0));
    let mut decoder = Decoder::new_with_limits(window, Limits { bytes: DECODER_BYTES });
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    match decoder.read_header_info() {
        Ok(header) if header.width > MAX_WIDTH => return Some(Reason::TooManyPixels),
        Ok(_) => {}
        Err(error) => return Some(reason_of(&error)),
    }
    let scanned = decoder.read_info().and_then(|mut reader| scan(&mut reader));
    scanned.unwrap_or_else(|error| Some(reason_of(&error)))
}

fn scan<R: Read + Seek>(reader: &mut Reader<&mut Window<R>>) -> Result<Option<Reason>, DecodingError> {
    let samples = match reader.output_color_type().0 {
        ColorType::GrayscaleAlpha => 2,
        ColorType::Rgba => 4,
        _ => 0,
    };
    if samples > 0 {
        let (width, height) = reader.info().size();
        if u64::from(width) * u64::from(height) > MAX_PIXELS {
            return Ok(Some(Reason::TooManyPixels));
        }
        while let Some(row) = reader.next_row()? {
            let mut alphas = row.data().iter().skip(samples - 1).step_by(samples);
            if alphas.any(|&alpha| alpha != u8::MAX) {
                return Ok(Some(Reason::TransparentBackground));
            }
        }
    }
    reader.finish()?;
    Ok(None)
}

fn reason_of(error: &DecodingError) -> Reason {
    match error {
        DecodingError::LimitsExceeded => Reason::TooManyPixels,
        _ => Reason::Damaged,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Reason;
    use super::super::hostile_tests::reason;

    /// A PNG with the given colours, whose rows are what `pixels` says.
    fn png(
        width: u32,
        height: u32,
        colour: ::png::ColorType,
        pixels: &[u8],
        prepare: impl Fn(&mut ::png::Encoder<&mut Vec<u8>>),
    ) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = ::png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(colour);
        prepare(&mut encoder);
        encoder.write_header().unwrap().write_image_data(pixels).unwrap();
        bytes
    }

    #[test]
    fn only_a_png_with_a_pixel_that_shows_through_is_transparent() {
        use ::png::{BitDepth, ColorType};
        let opaque = [10, 20, 30, 255].repeat(64 * 64);
        assert_eq!(reason(&png(64, 64, ColorType::Rgba, &opaque, |_| {})), None);
        let mut one = opaque;
        one[64 * 64 * 4 - 1] = 254;
        let transparent = Some(Reason::TransparentBackground);
        assert_eq!(reason(&png(64, 64, ColorType::Rgba, &one, |_| {})), transparent);
        let grey = [7, 255].repeat(64);
        assert_eq!(reason(&png(8, 8, ColorType::GrayscaleAlpha, &grey, |_| {})), None);
        let wide = [7, 7, 255, 255].repeat(64);
        let sixteen = |encoder: &mut ::png::Encoder<&mut Vec<u8>>| encoder.set_depth(BitDepth::Sixteen);
        assert_eq!(reason(&png(8, 8, ColorType::GrayscaleAlpha, &wide, sixteen)), None);
        let palette = |encoder: &mut ::png::Encoder<&mut Vec<u8>>| {
            encoder.set_palette(vec![1, 2, 3, 4, 5, 6]);
            encoder.set_trns(vec![255, 0]);
        };
        assert_eq!(reason(&png(8, 8, ColorType::Indexed, &[0; 64], palette)), None);
        assert_eq!(reason(&png(8, 8, ColorType::Indexed, &[1; 64], palette)), transparent);
        let keyed = |encoder: &mut ::png::Encoder<&mut Vec<u8>>| encoder.set_trns(vec![0, 9]);
        assert_eq!(reason(&png(8, 8, ColorType::Grayscale, &[8; 64], keyed)), None);
        assert_eq!(reason(&png(8, 8, ColorType::Grayscale, &[9; 64], keyed)), transparent);
    }

    #[test]
    fn a_png_that_unpacks_to_more_than_can_be_looked_at_is_not_unpacked() {
        for (width, height) in [(10_000, 10_000), (0x7FFF_FFFF, 1), (1, 0x7FFF_FFFF)] {
            let mut bytes = Vec::new();
            let mut encoder = ::png::Encoder::new(&mut bytes, width, height);
            encoder.set_color(::png::ColorType::Rgba);
            let mut writer = encoder.write_header().unwrap();
            writer.write_chunk(::png::chunk::IDAT, &[0x78, 0x9C]).unwrap();
            drop(writer);
            assert_eq!(reason(&bytes), Some(Reason::TooManyPixels), "{width} x {height}");
        }
    }
}
