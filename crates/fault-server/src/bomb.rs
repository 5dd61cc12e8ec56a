use std::io::{self, Write};

use flate2::write::GzEncoder;
use flate2::{Compress, Compression, Crc, FlushCompress};

/// What a bomb is made of, unpacked.
const PIECE: usize = 1 << 20;

/// Compresses something.
pub(crate) fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// So many bytes of white space (whole mebibytes) as gzip of a thousandth of it.
///
/// One piece is compressed so that it ends at a whole byte and looks back at nothing; it then stands
/// there as often as is needed, so that a gigabyte takes no longer than a mebibyte.
pub(crate) fn blanks(bytes: u64) -> io::Result<Vec<u8>> {
    let blanks = vec![b' '; PIECE];
    let mut piece = Vec::with_capacity(PIECE / 100);
    Compress::new(Compression::best(), false)
        .compress_vec(&blanks, &mut piece, FlushCompress::Full)
        .map_err(io::Error::other)?;
    let (mut sum, mut sum_of_piece) = (Crc::new(), Crc::new());
    sum_of_piece.update(&blanks);
    let mut packed = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    for _ in 0..bytes / PIECE as u64 {
        packed.extend_from_slice(&piece);
        sum.combine(&sum_of_piece);
    }
    // A last block with nothing in it.
    packed.extend_from_slice(&[3, 0]);
    packed.extend_from_slice(&sum.sum().to_le_bytes());
    packed.extend_from_slice(&sum.amount().to_le_bytes());
    Ok(packed)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_bomb_is_small_and_unpacks_to_what_it_says() {
        let packed = blanks(4 << 20).unwrap();
        assert!(packed.len() < 16 << 10, "{} bytes", packed.len());
        let mut unpacked = Vec::new();
        // The reader checks sum and length at the end.
        flate2::read::GzDecoder::new(packed.as_slice())
            .read_to_end(&mut unpacked)
            .unwrap();
        assert_eq!(unpacked, vec![b' '; 4 << 20]);
    }
}
