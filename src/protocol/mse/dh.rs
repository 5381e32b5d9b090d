//! Diffie and Hellman's key agreement in the one group that MSE has: the powers of 2 modulo a prime
//! P of 768 bits.
//!
//! The arithmetic is our own: a package for numbers of any kind is three times as large and no
//! faster. This prime makes it short: its upper 66 bits are ones, so 2^768 is congruent to a number
//! of 702 bits, and what sticks out of 768 bits is folded back by a multiplication. How long that
//! takes tells of a private key, which is used for one connection only.

/// Bytes of a public key, and of a shared secret.
pub const KEY_LENGTH: usize = 96;
/// Bytes of a private key.
pub const PRIVATE_LENGTH: usize = 20;

const DIGITS: usize = KEY_LENGTH / 8;

/// A number below 2^768, its last digit first.
type Number = [u64; DIGITS];

/// 2^768 - P.
const FOLD: Number = [
    0xffff_ffff_fff6_fa9d,
    0x0bb3_bd16_59c5_c9de,
    0x1b7a_4a89_9da1_8139,
    0xb01e_ca92_92ae_3dba,
    0xcfd4_f592_0da0_ebc8,
    0x106a_e64c_32c5_bce4,
    0xaeb5_f786_71cb_fb22,
    0xfdf4_4159_c4ec_64dd,
    0xd6fd_b1f7_7598_338b,
    0x3b39_9d74_7f23_e32e,
    0x36f0_255d_de97_3dcb,
    0,
];

/// One side's secret, for one connection.
pub struct PrivateKey(pub [u8; PRIVATE_LENGTH]);

impl PrivateKey {
    /// What the other side is told.
    pub fn public_key(&self) -> [u8; KEY_LENGTH] {
        to_bytes(&self.power_of(&small(2)))
    }

    /// What both sides know then. `None` if `theirs` is no public key: 0, 1, P - 1, or no number
    /// below P. All others have too many powers to be tried.
    pub fn shared_secret(&self, theirs: &[u8; KEY_LENGTH]) -> Option<[u8; KEY_LENGTH]> {
        let theirs = from_bytes(theirs);
        let mut next = theirs;
        let is_last = add_multiple(&mut next, &small(1), 1) > 0;
        let is_below = !is_last && !reduce(&mut next);
        let is_key = is_below && theirs != small(0) && theirs != small(1);
        is_key.then(|| to_bytes(&self.power_of(&theirs)))
    }

    fn power_of(&self, base: &Number) -> Number {
        let mut power = small(1);
        for byte in self.0 {
            for bit in (0..8).rev() {
                power = product(&power, &power);
                if byte >> bit & 1 == 1 {
                    power = product(&power, base);
                }
            }
        }
        reduce(&mut power);
        power
    }
}

/// a b modulo P, or as much more as fits into 768 bits.
fn product(a: &Number, b: &Number) -> Number {
    let mut wide = [0; 2 * DIGITS];
    for (at, digit) in a.iter().enumerate() {
        if let Some([sum @ .., out]) = wide.get_mut(at..=at + DIGITS) {
            *out = add_multiple(sum, b, *digit);
        }
    }
    for at in (0..DIGITS).rev() {
        if let Some([sum @ .., out]) = wide.get_mut(at..=at + DIGITS) {
            while *out > 0 {
                *out = add_multiple(sum, &FOLD, *out);
            }
        }
    }
    std::array::from_fn(|at| wide.get(at).copied().unwrap_or(0))
}

/// sum + b digit: what sticks out of 768 bits is returned.
fn add_multiple(sum: &mut [u64], b: &Number, digit: u64) -> u64 {
    let mut carry = 0;
    for (sum, b) in sum.iter_mut().zip(b) {
        let whole = u128::from(*sum) + u128::from(*b) * u128::from(digit) + u128::from(carry);
        (*sum, carry) = split(whole);
    }
    carry
}

/// The lower and the upper digit.
#[allow(clippy::cast_possible_truncation)] // that is how it is split
fn split(whole: u128) -> (u64, u64) {
    (whole as u64, (whole >> 64) as u64)
}

/// Takes P away if the number is not below it. Whether it was not.
fn reduce(number: &mut Number) -> bool {
    let mut less = *number;
    // A number that reaches P reaches 2^768 then, and what sticks out is dropped.
    let reaches = add_multiple(&mut less, &FOLD, 1) > 0;
    if reaches {
        *number = less;
    }
    reaches
}

fn small(value: u64) -> Number {
    let mut number = [0; DIGITS];
    number[0] = value;
    number
}

fn from_bytes(bytes: &[u8; KEY_LENGTH]) -> Number {
    let mut number = [0; DIGITS];
    let (digits, _) = bytes.as_chunks();
    for (to, digit) in number.iter_mut().rev().zip(digits) {
        *to = u64::from_be_bytes(*digit);
    }
    number
}

fn to_bytes(number: &Number) -> [u8; KEY_LENGTH] {
    let mut bytes = [0; KEY_LENGTH];
    let (digits, _) = bytes.as_chunks_mut();
    for (digit, to) in number.iter().rev().zip(digits) {
        *to = digit.to_be_bytes();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As in the specification.
    const P: &str = "ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74\
                     020bbea63b139b22514a08798e3404ddef9519b3cd3a431b302b0a6df25f1437\
                     4fe1356d6d51c245e485b576625e7ec6f44c42e9a63a36210000000000090563";

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        assert_eq!(hex.len(), 2 * N);
        std::array::from_fn(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
    }

    /// P + `difference`.
    fn near_p(difference: i8) -> [u8; KEY_LENGTH] {
        let mut near = bytes::<KEY_LENGTH>(P);
        near[KEY_LENGTH - 1] = near[KEY_LENGTH - 1].checked_add_signed(difference).unwrap();
        near
    }

    #[test]
    fn what_is_folded_is_what_p_leaves_of_768_bits() {
        let mut sum = from_bytes(&near_p(-1));
        assert_eq!(add_multiple(&mut sum, &FOLD, 1), 0);
        assert_eq!(sum, [u64::MAX; DIGITS]);
    }

    /// A private key, its public key, another public key and the secret: by Python's `pow`.
    #[test]
    fn keys_and_secrets_are_powers_modulo_p() {
        let cases = [
            (
                "0000000000000000000000000000000000000001",
                "0000000000000000000000000000000000000000000000000000000000000000\
                 0000000000000000000000000000000000000000000000000000000000000000\
                 0000000000000000000000000000000000000000000000000000000000000002",
                "ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74\
                 020bbea63b139b22514a08798e3404ddef9519b3cd3a431b302b0a6df25f1437\
                 4fe1356d6d51c245e485b576625e7ec6f44c42e9a63a36210000000000090561",
                "ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74\
                 020bbea63b139b22514a08798e3404ddef9519b3cd3a431b302b0a6df25f1437\
                 4fe1356d6d51c245e485b576625e7ec6f44c42e9a63a36210000000000090561",
            ),
            (
                "ffffffffffffffffffffffffffffffffffffffff",
                "fe9aac142f64ad4d5bca7e30bea17d62c709de9e4c5694e2b27e8c6ed82510bb\
                 57952fcce38f6a5084b9699ec34b033ed1a0dbd51d70274bff40ae493f0ce2cd\
                 bd3cbd6055c9677a7eb70d29f4d8ecfbc2625316a7ae1a0d3d6605f0406bad79",
                "ffffffffffffffffb90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74\
                 020bbea63b139b22514a08798e3404ddef9519b3cd3a431b302b0a6df25f1437\
                 4fe1356d6d51c245e485b576625e7ec6f44c42e9a63a36210000000000090562",
                "2d62706c5e2dd47625dfebf3edf37f593313bd2e8718604c0da3e8241e37db87\
                 d03d1d5fef67df9c7f98f3c910870502abfd157aba84e5e75bd9b6085fe4cfd0\
                 87b395f844c32beb6d68cea990f584b8e6ab931a6ca5bdd6f9161661fd509642",
            ),
            (
                "4e1195df020de59e0d65a33a4279f1183e7ae4e5",
                "084c4e32c2333c211bf4931ef4f6a9ca15b234163844898932ea69676eeb766b\
                 7af4e006a19a8342f0fbbc872ea0a97125b6b629ec3ea5840078afc338102474\
                 d4cae2fdfbcbe40018fa95d572553aa920c1d6b380fc5926d97d50d04da14252",
                "ea29aff4f763a1dbbe46bc514fcb1b30a3242b07a477117fc79e2e476c94e449\
                 03e0769b10886aef0ff2170851dd67d41755c87037c4319d9901e7fdf518c485\
                 ad4063bd788deb6e33c38277838197a09aea6c4c94ead7fb948da1f6bac447ee",
                "caf827098c2b07ef8865d89352cb84dffef4b6307afb4abbbd4a3e65258fa30f\
                 b75c04c1db943a93c84f651d788b627b6fcfaaaa794159d3d7a8a2be2d654bfb\
                 26866c9cac14a59825956688c6d5b59558aba9fb7f19151a73eaaef3dc0214df",
            ),
            (
                "c02c0b965e023abee808f2b548d8d5193a8b5229",
                "31e5ecb839c5accb91a52626b64b100652bd12b135cdfa777d308ba7e3fe2c1f\
                 1ff49600b532dd0c6ba9494d25c9aeab618b6e009dd1d433669337fc9aade072\
                 ac258119a19e20ae04545582072f64105bb4d1bed4af154a727fea9bb2d66281",
                "31e5ecb839c5accb91a52626b64b100652bd12b135cdfa777d308ba7e3fe2c1f\
                 1ff49600b532dd0c6ba9494d25c9aeab618b6e009dd1d433669337fc9aade072\
                 ac258119a19e20ae04545582072f64105bb4d1bed4af154a727fea9bb2d66281",
                "064e421d8976ad0d6246cae20d1ecc757884bbd7d397c11c155936915a6b28ba\
                 7d97721c366887d2d4260c846f6f760201f579329d76495b626f4f19891db86f\
                 f19df199c0d2d04f2e27d12398c422d9108156c6981a5d1486e802a31abbbbc6",
            ),
            (
                "0000000000000000000000000000000000000003",
                "0000000000000000000000000000000000000000000000000000000000000000\
                 0000000000000000000000000000000000000000000000000000000000000000\
                 0000000000000000000000000000000000000000000000000000000000000008",
                "7fffffffffffffffe487ed5110b4611a62633145c06e0e68948127044533e63a\
                 0105df531d89cd9128a5043cc71a026ef7ca8cd9e69d218d98158536f92f8a1b\
                 a7f09ab6b6a8e122f242dabb312f3f637a262174d31d1b1080000000000482b1",
                "5fffffffffffffffeb65f1fccc8748d3c9ca64f450528ace6f60dd4333e6ecab\
                 80c4677e56275a2cde7bc32d955381d339d7e9a36cf5d92a321023e93ae3a794\
                 bdf4740908fea8da35b2240c64e36f8a9b9c99179e55d44c6000000000036205",
            ),
        ];
        for (private, public, theirs, secret) in cases {
            let private = PrivateKey(bytes(private));
            assert_eq!(private.public_key(), bytes::<KEY_LENGTH>(public));
            assert_eq!(private.shared_secret(&bytes(theirs)), Some(bytes(secret)));
        }
    }

    #[test]
    fn both_sides_come_to_the_same_secret() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..20 {
            let [ours, theirs] =
                std::array::from_fn(|_| PrivateKey([0; 20].map(|_: u8| rng.u8(..))));
            let secret = ours.shared_secret(&theirs.public_key());
            assert_eq!(secret, theirs.shared_secret(&ours.public_key()));
            assert!(secret.is_some());
        }
    }

    #[test]
    fn what_is_no_public_key_makes_no_secret() {
        let private = PrivateKey([3; PRIVATE_LENGTH]);
        let number = |value| to_bytes(&small(value));
        let not_below = [near_p(0), near_p(1), [0xff; KEY_LENGTH]];
        for wrong in [number(0), number(1), near_p(-1)].into_iter().chain(not_below) {
            assert_eq!(private.shared_secret(&wrong), None);
        }
        assert_eq!(private.shared_secret(&number(2)), Some(private.public_key()));
        assert!(private.shared_secret(&near_p(-2)).is_some());
    }

    #[test]
    fn numbers_at_the_edges_are_multiplied_right() {
        let minus_one = from_bytes(&near_p(-1));
        let mut one = product(&minus_one, &minus_one);
        reduce(&mut one);
        assert_eq!(one, small(1));
        // 2^768 - 1 is FOLD - 1: the largest that can come between.
        let most = [u64::MAX; DIGITS];
        let mut less = FOLD;
        less[0] -= 1;
        let [mut a, mut b] = [product(&most, &most), product(&less, &less)];
        reduce(&mut a);
        reduce(&mut b);
        assert_eq!(a, b);
    }
}
