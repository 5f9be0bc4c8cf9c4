//! Recall on planted personal data and false refusals of identifiers that systems make up, by the thousand. The long
//! version: `cargo test --release --test it scrub -- --ignored --nocapture`.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use scoreline_domain::privacy::scrub::{Personal, find};
use sha2::{Digest, Sha256};

/// Numbers that look random and are the same in every run (`SplitMix64`).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    fn text(&mut self, alphabet: &[u8], length: usize) -> String {
        (0..length).map(|_| char::from(alphabet[self.below(alphabet.len())])).collect()
    }

    fn digits(&mut self, length: usize) -> String {
        self.text(b"0123456789", length)
    }
}

/// A number of a scheme with its check digit, in one piece or in groups.
fn card(numbers: &mut Numbers) -> String {
    let schemes = [("4", 16), ("4", 13), ("4", 19), ("51", 16), ("55", 16), ("2221", 16), ("2720", 16), ("34", 15)];
    let more = [("37", 15), ("36", 14), ("3050", 14), ("6011", 16), ("65", 16), ("3528", 16), ("62", 17), ("5018", 14)];
    let schemes = [schemes, more].concat();
    let (prefix, length) = schemes[numbers.below(schemes.len())];
    let mut card = prefix.to_owned() + &numbers.digits(length - 1 - prefix.len());
    let sum: usize = (card.bytes().rev().enumerate())
        .map(|(at, byte)| {
            let digit = usize::from(byte - b'0') * (2 - at % 2);
            digit / 10 + digit % 10
        })
        .sum();
    card.push(char::from(b'0' + ((10 - sum % 10) % 10) as u8));
    let groups: &[usize] = if length == 15 { &[4, 6, 5] } else { &[4, 4, 4, 4, 3] };
    grouped(&card, groups, numbers.pick(&["", "", " ", "-", ".", "  ", "\u{a0}", "\u{2011}"]))
}

fn grouped(digits: &str, lengths: &[usize], between: &str) -> String {
    let mut rest = digits;
    let mut groups = Vec::new();
    for length in lengths {
        let (group, after) = rest.split_at((*length).min(rest.len()));
        groups.push(group);
        rest = after;
    }
    groups.retain(|group| !group.is_empty());
    groups.join(between) + rest
}

fn phone(numbers: &mut Numbers) -> String {
    let american = |numbers: &mut Numbers| {
        let first = |numbers: &mut Numbers| numbers.text(b"23456789", 1);
        let (area, exchange) = (first(numbers) + &numbers.digits(2), first(numbers) + &numbers.digits(2));
        (area, exchange, numbers.digits(4))
    };
    match numbers.below(10) {
        0 => format!("+{}{}", numbers.pick(&["1", "44", "49", "33", "91", "971", "352"]), numbers.digits(10)),
        1 => {
            let code = numbers.pick(&["1", "44", "49", "33", "91"]);
            format!("+{code} {} {}", numbers.digits(3), numbers.digits(7))
        }
        2 => {
            let (area, exchange, line) = american(numbers);
            format!("({area}) {exchange}-{line}")
        }
        3 => {
            let (area, exchange, line) = american(numbers);
            let between = numbers.pick(&["-", ".", " "]);
            format!("{area}{between}{exchange}{between}{line}")
        }
        4 => {
            let (area, exchange, line) = american(numbers);
            format!("{}{area}{exchange}{line}", numbers.pick(&["", "1"]))
        }
        5 => format!("0{}{} {}", numbers.text(b"123456789", 1), numbers.digits(2), numbers.digits(7)),
        6 => format!("0{}{}/{}", numbers.text(b"123456789", 1), numbers.digits(1), numbers.digits(7)),
        7 => format!("0{}{}", numbers.text(b"123456789", 1), numbers.digits(9)),
        8 => {
            let digits = format!("0{}{}", numbers.text(b"123456789", 1), numbers.digits(8));
            grouped(&digits, &[2, 2, 2, 2, 2], numbers.pick(&[" ", ".", "-"]))
        }
        _ => format!("00{}{}", numbers.pick(&["44", "49", "33"]), numbers.digits(10)),
    }
}

fn email(numbers: &mut Numbers) -> String {
    let local = 1 + numbers.below(12);
    let local = numbers.text(b"abcdefghijklmnopqrstuvwxyz0123456789", local);
    let tag = numbers.pick(&["", ".doe", "+tag", "_x", "-1"]);
    let host = 1 + numbers.below(10);
    let host = numbers.text(b"abcdefghijklmnopqrstuvwxyz", host);
    let at = numbers.pick(&["@", "@", "@", "%40", "\u{FF20}"]);
    format!("{local}{tag}{at}{host}.{}", numbers.pick(&["com", "de", "co.uk", "org", "io"]))
}

fn social_security(numbers: &mut Numbers) -> String {
    let between = numbers.pick(&["-", "-", " "]);
    format!(
        "{}{}{between}{}{between}{}",
        numbers.text(b"12345678", 1),
        numbers.digits(2),
        numbers.digits(2),
        numbers.digits(4)
    )
}

/// A German account with the check digits that belong to it.
fn iban(numbers: &mut Numbers) -> String {
    let account = numbers.digits(18);
    let remainder = format!("{account}131400").bytes().fold(0, |rest, byte| (rest * 10 + u32::from(byte - b'0')) % 97);
    let iban = format!("DE{:02}{account}", 98 - remainder);
    grouped(&iban, &[4, 4, 4, 4, 4, 2], numbers.pick(&["", " "]))
}

/// Alone or where people put such things.
fn planted(numbers: &mut Numbers, datum: &str) -> String {
    let before = numbers.pick(&["", "", "", "id=", "note: ", "call ", "tel:", "\"", "a, ", "see ("]);
    let after = match before {
        "see (" => ")",
        "\"" => "\"",
        _ => numbers.pick(&["", "", "", " now", ", please", ";"]),
    };
    format!("{before}{datum}{after}")
}

type MakeDatum = fn(&mut Numbers) -> String;

fn recall(count: usize) {
    let kinds: [(&str, MakeDatum); 5] =
        [("card", card), ("phone", phone), ("e-mail", email), ("social security", social_security), ("IBAN", iban)];
    let mut numbers = Numbers(20_261_121);
    let mut missed = Vec::new();
    for at in 0..count {
        let (kind, make) = kinds[at % kinds.len()];
        let datum = make(&mut numbers);
        let text = planted(&mut numbers, &datum);
        if find(&text).is_none() {
            missed.push(format!("{kind}: {text}"));
        }
    }
    eprintln!("planted values found: {} of {count}", count - missed.len());
    assert!(missed.is_empty(), "{} missed:\n{}", missed.len(), missed[..missed.len().min(20)].join("\n"));
}

type MakeId = fn(&mut Numbers, usize) -> String;

fn refusals(count: usize) {
    let kinds: [(&str, MakeId); 9] = [
        ("SHA-256, hexadecimal", |_, at| hex(&digest(at))),
        ("SHA-256, Base64", |_, at| STANDARD.encode(digest(at))),
        ("SHA-256, Base64 for URLs", |_, at| URL_SAFE_NO_PAD.encode(digest(at))),
        ("UUID, random", |_, at| uuid::Builder::from_random_bytes(half(at)).into_uuid().to_string()),
        ("UUID, by time", |numbers, at| {
            let mut random = [0; 10];
            random.copy_from_slice(&digest(at)[..10]);
            let millis = 1_700_000_000_000 + numbers.next() % 100_000_000_000;
            uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid().to_string()
        }),
        ("UUID behind a name", |_, at| format!("req-{}", uuid::Builder::from_random_bytes(half(at)).into_uuid())),
        ("ULID", |numbers, _| format!("01{}", numbers.text(b"0123456789ABCDEFGHJKMNPQRSTVWXYZ", 24))),
        ("prefixed number", |_, at| format!("CUST-{at:05}")),
        ("short number", |_, at| at.to_string()),
    ];
    for (kind, make) in kinds {
        let mut numbers = Numbers(7);
        let refused: Vec<(String, Personal)> = (0..count)
            .filter_map(|at| {
                let id = make(&mut numbers, at);
                find(&id).map(|personal| (id, personal))
            })
            .collect();
        eprintln!("{kind}: {} of {count} refused", refused.len());
        assert!(refused.is_empty(), "{kind}: {:?}", &refused[..refused.len().min(10)]);
    }
}

fn digest(number: usize) -> [u8; 32] {
    Sha256::digest(number.to_le_bytes()).into()
}

fn half(number: usize) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest(number)[..16]);
    bytes
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[test]
fn every_planted_value_is_found() {
    recall(10_000);
}

#[test]
fn identifiers_of_systems_are_not_refused() {
    refusals(10_000);
}

#[test]
#[ignore = "a minute without optimisation; run `cargo test --release --test it scrub -- --ignored --nocapture`"]
fn a_million_identifiers_of_each_kind_are_not_refused() {
    refusals(1_000_000);
    recall(1_000_000);
}
