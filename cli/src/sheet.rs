//! Contact sheets: data on the left, samples of the model on the right.

use crate::{args::ImageSize, io};
use std::path::Path;

/// Images in a row and in a column of each half.
const SIDE: usize = 8;

/// Images in each half.
pub const IMAGES: usize = SIDE * SIDE;

/// About how many pixels wide an image is drawn.
const TARGET: usize = 64;

/// Pixels between images, and between the halves.
const GAP: usize = 2;
const MIDDLE: usize = 24;
const PAPER: u8 = 255;

/// Writes a sheet as PNG. `data` and `samples` hold images one after the other, of which the first
/// [`IMAGES`] are drawn.
///
/// Both halves are drawn alike: each image is stretched from its smallest value (black) to its
/// largest (white), nothing is cut off.
pub fn write(path: &Path, size: ImageSize, data: &[f64], samples: &[f64]) -> Result<(), io::Error> {
    let zoom = (TARGET / size.height.max(size.width)).max(1);
    let (tile_height, tile_width) = (size.height * zoom + GAP, size.width * zoom + GAP);
    let half = SIDE * tile_width + GAP;
    let (height, width) = (SIDE * tile_height + GAP, 2 * half + MIDDLE);
    let mut sheet = vec![PAPER; height * width];
    for (images, left) in [(data, 0), (samples, half + MIDDLE)] {
        let images = images.chunks_exact(size.height * size.width).take(IMAGES);
        for (i, image) in images.enumerate() {
            let (top, left) = (GAP + i / SIDE * tile_height, left + GAP + i % SIDE * tile_width);
            let gray = stretch(image);
            for y in 0..size.height * zoom {
                for x in 0..size.width * zoom {
                    sheet[(top + y) * width + left + x] = gray[y / zoom * size.width + x / zoom];
                }
            }
        }
    }
    io::write_atomic(path, |out| {
        let mut encoder = png::Encoder::new(out, width as u32, height as u32);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&sheet)?;
        Ok(writer.finish()?)
    })
}

fn stretch(image: &[f64]) -> Vec<u8> {
    let (low, high) = image
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &x| (low.min(x), high.max(x)));
    let range = if high > low { high - low } else { 1.0 };
    image.iter().map(|x| ((x - low) / range * 255.0).round() as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contrast_is_stretched_and_flat_images_survive() {
        assert_eq!(stretch(&[-1.0, 0.0, 1.0]), [0, 128, 255]);
        assert_eq!(stretch(&[3.0, 3.0]), [0, 0]);
    }
}
