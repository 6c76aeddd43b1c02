//! Random numbers that follow from a seed and a position.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// A generator of its own for every table, property and position.
pub(crate) fn derive(seed: u64, table: &str, a: u64, b: u64) -> ChaCha8Rng {
    let mut key = [0_u8; 32];
    let name = table.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    for (place, part) in key.chunks_exact_mut(8).zip([seed, name, a, b]) {
        place.copy_from_slice(&part.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}
