//! Signatures of webhooks as Standard Webhooks has them (`webhook-id`, `webhook-timestamp`, `webhook-signature`):
//! `HMAC-SHA-256(secret, "id.timestamp.body")` in Base64 behind `v1,`. Pure: the time is handed in.
//!
//! A sender signs with every secret in use, a receiver takes any of its secrets: both ends can change theirs without
//! losing a message. Whether a verified message was seen before is for the store to say.

use std::fmt::{self, Write as _};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretSlice};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::time::Timestamp;

/// How far a timestamp may be from now, in either direction.
pub const TOLERANCE: Duration = Duration::from_mins(5);
const PREFIX: &str = "whsec_";
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
const LONGEST_ID: usize = 256;
/// Most signatures of a message that are looked at: more is no rotation.
const MOST_SIGNATURES: usize = 16;

/// A shared secret.
#[derive(Clone)]
pub struct Secret(SecretSlice<u8>);

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("must be `whsec_` and 24 to 64 bytes in Base64")]
pub struct SecretFault;

impl Secret {
    /// # Errors
    /// When it is not written as the standard has it.
    pub fn parse(text: &str) -> Result<Self, SecretFault> {
        let bytes = STANDARD.decode(text.trim().strip_prefix(PREFIX).ok_or(SecretFault)?).map_err(|_| SecretFault)?;
        if SECRET_BYTES.contains(&bytes.len()) { Ok(Self(bytes.into())) } else { Err(SecretFault) }
    }

    /// The signature of a message, as it stands behind `v1,`.
    fn sign(&self, id: &str, timestamp: &str, body: &[u8]) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.expose_secret()).expect("HMAC takes keys of any length");
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The value of `webhook-signature` for a message that is sent now: one signature for each secret, the newest first.
pub fn sign(secrets: &[Secret], id: &str, sent_at: Timestamp, body: &[u8]) -> String {
    let timestamp = sent_at.as_second().to_string();
    let mut header = String::with_capacity(48 * secrets.len());
    for secret in secrets {
        let gap = if header.is_empty() { "" } else { " " };
        let _ = write!(header, "{gap}v1,{}", STANDARD.encode(secret.sign(id, &timestamp, body)));
    }
    header
}

/// The three headers as they came; absent ones are `None`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Headers<'a> {
    pub id: Option<&'a str>,
    pub timestamp: Option<&'a str>,
    pub signature: Option<&'a str>,
}

/// A message that one of the secrets signed, recently.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verified<'a> {
    /// The same for every delivery of the message.
    pub id: &'a str,
    pub sent_at: Timestamp,
}

/// Why a message is refused. All but `TooLarge` are answered alike, so that nobody learns how far they came.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unverified {
    #[error("body must be at most {most} bytes")]
    TooLarge { most: usize },
    #[error("`webhook-id`, `webhook-timestamp` and `webhook-signature` are required")]
    HeaderMissing,
    #[error("`webhook-id` must be 1 to 256 visible ASCII characters without a dot")]
    Id,
    #[error("`webhook-timestamp` must be whole seconds since 1970")]
    Timestamp,
    #[error("`webhook-timestamp` is too old")]
    TooOld,
    #[error("`webhook-timestamp` is in the future")]
    TooNew,
    #[error("`webhook-signature` must hold a signature of version `v1`")]
    NoSignature,
    #[error("`webhook-signature` does not fit")]
    Mismatch,
}

/// Checks messages against the secrets in use.
#[derive(Clone, Debug)]
pub struct Verifier {
    secrets: Vec<Secret>,
    tolerance: Duration,
    body_limit: usize,
}

impl Verifier {
    /// `secrets`: the newest and those it replaces. Bodies above `body_limit` bytes are not looked at.
    pub fn new(secrets: Vec<Secret>, tolerance: Duration, body_limit: usize) -> Self {
        Self { secrets, tolerance, body_limit }
    }

    /// Checks the message as it came over the wire: `body` must not have been parsed and written anew.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn verify<'a>(&self, headers: Headers<'a>, body: &[u8], now: Timestamp) -> Result<Verified<'a>, Unverified> {
        if body.len() > self.body_limit {
            return Err(Unverified::TooLarge { most: self.body_limit });
        }
        let Headers { id: Some(id), timestamp: Some(timestamp), signature: Some(signatures) } = headers else {
            return Err(Unverified::HeaderMissing);
        };
        // A dot in the id could move the border between what is signed as id and as timestamp.
        let visible = |byte: u8| byte.is_ascii_graphic() && byte != b'.';
        if id.is_empty() || id.len() > LONGEST_ID || !id.bytes().all(visible) {
            return Err(Unverified::Id);
        }
        let sent_at = self.time(timestamp, now)?;
        let mut given =
            signatures.split(' ').filter_map(|one| one.strip_prefix("v1,")).take(MOST_SIGNATURES).peekable();
        if given.peek().is_none() {
            return Err(Unverified::NoSignature);
        }
        let expected: Vec<_> = self.secrets.iter().map(|secret| secret.sign(id, timestamp, body)).collect();
        let mut fits = subtle::Choice::from(0);
        for signature in given.filter_map(|signature| STANDARD.decode(signature).ok()) {
            for expected in &expected {
                fits |= expected.as_slice().ct_eq(&signature);
            }
        }
        if fits.into() { Ok(Verified { id, sent_at }) } else { Err(Unverified::Mismatch) }
    }

    fn time(&self, timestamp: &str, now: Timestamp) -> Result<Timestamp, Unverified> {
        // A sign, a space or a leading zero would be another text with the same time.
        let plain = timestamp.bytes().all(|byte| byte.is_ascii_digit()) && !timestamp.starts_with('0');
        let second: i64 = timestamp.parse().ok().filter(|_| plain).ok_or(Unverified::Timestamp)?;
        let sent_at = Timestamp::from_second(second).map_err(|_| Unverified::Timestamp)?;
        let tolerance = i64::try_from(self.tolerance.as_secs()).unwrap_or(i64::MAX);
        match now.as_second().saturating_sub(second) {
            age if age > tolerance => Err(Unverified::TooOld),
            age if age < -tolerance => Err(Unverified::TooNew),
            _ => Ok(sent_at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The example message of the standard's reference libraries.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const MESSAGE: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const SENT_AT: i64 = 1_614_265_330;
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const FITS: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    const LIMIT: usize = 1000;

    fn secret(text: &str) -> Secret {
        Secret::parse(text).expect("a secret")
    }

    fn another(byte: u8) -> Secret {
        secret(&format!("whsec_{}", STANDARD.encode([byte; 32])))
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn headers<'a>(id: &'a str, timestamp: &'a str, signature: &'a str) -> Headers<'a> {
        Headers { id: Some(id), timestamp: Some(timestamp), signature: Some(signature) }
    }

    fn verifier() -> Verifier {
        Verifier::new(vec![secret(SECRET)], TOLERANCE, LIMIT)
    }

    #[test]
    fn the_published_example_is_signed_and_verified() {
        assert_eq!(sign(&[secret(SECRET)], MESSAGE, at(SENT_AT), BODY), FITS);
        let verified = verifier().verify(headers(MESSAGE, "1614265330", FITS), BODY, at(SENT_AT + 10));
        assert_eq!(verified, Ok(Verified { id: MESSAGE, sent_at: at(SENT_AT) }));
    }

    #[test]
    fn secrets_are_changed_without_losing_a_message() {
        let old = another(1);
        let new = another(2);
        let both = sign(&[new.clone(), old.clone()], MESSAGE, at(SENT_AT), BODY);
        let one = |secret: &Secret| sign(std::slice::from_ref(secret), MESSAGE, at(SENT_AT), BODY);
        let takes = |secrets: &[&Secret], signature: &str| {
            let secrets = secrets.iter().copied().cloned().collect();
            let verifier = Verifier::new(secrets, TOLERANCE, LIMIT);
            verifier.verify(headers(MESSAGE, "1614265330", signature), BODY, at(SENT_AT)).is_ok()
        };
        assert!(takes(&[&old], &both) && takes(&[&new], &both));
        assert!(takes(&[&new, &old], &one(&old)) && takes(&[&new, &old], &one(&new)));
        assert!(!takes(&[&new], &one(&old)));
        // Signatures of other versions stand beside ours.
        assert!(takes(&[&old], &format!("v1a,AAAA v2,BBBB {}", one(&old))));
        assert!(!takes(&[], &both));
    }

    #[test]
    fn whatever_is_not_signed_recently_by_us_is_refused() {
        let time = "1614265330";
        let second = |offset: i64| (SENT_AT + offset).to_string();
        let forged = sign(&[another(9)], MESSAGE, at(SENT_AT), BODY);
        let early = second(-301);
        let late = second(301);
        let signed = |at_second: i64| sign(&[secret(SECRET)], MESSAGE, at(at_second), BODY);
        let early_signature = signed(SENT_AT - 301);
        let late_signature = signed(SENT_AT + 301);
        let long_id = "x".repeat(257);
        let flood = "v1,AAAA ".repeat(MOST_SIGNATURES) + FITS;
        let cut = &FITS[..FITS.len() - 5];
        let url_safe = FITS.replace('+', "-").replace('/', "_");
        let twice = format!("{FITS}{FITS}");
        let version_2 = FITS.replace("v1", "v2");
        let none = Headers::default();
        let cases: [(&str, Headers<'_>, &[u8], Unverified); 27] = [
            ("no header", none, BODY, Unverified::HeaderMissing),
            ("no id", Headers { id: None, ..headers("", time, FITS) }, BODY, Unverified::HeaderMissing),
            ("no time", Headers { timestamp: None, ..headers(MESSAGE, "", FITS) }, BODY, Unverified::HeaderMissing),
            (
                "no signature",
                Headers { signature: None, ..headers(MESSAGE, time, "") },
                BODY,
                Unverified::HeaderMissing,
            ),
            ("empty id", headers("", time, FITS), BODY, Unverified::Id),
            ("long id", headers(&long_id, time, FITS), BODY, Unverified::Id),
            ("id with a dot", headers("msg.1614265330", time, FITS), BODY, Unverified::Id),
            ("id with a space", headers("msg 1", time, FITS), BODY, Unverified::Id),
            ("another id", headers("msg_other", time, FITS), BODY, Unverified::Mismatch),
            ("empty time", headers(MESSAGE, "", FITS), BODY, Unverified::Timestamp),
            ("time in words", headers(MESSAGE, "now", FITS), BODY, Unverified::Timestamp),
            ("time with a sign", headers(MESSAGE, "+1614265330", FITS), BODY, Unverified::Timestamp),
            ("time with a fraction", headers(MESSAGE, "1614265330.0", FITS), BODY, Unverified::Timestamp),
            ("time with a zero before it", headers(MESSAGE, "01614265330", FITS), BODY, Unverified::Timestamp),
            ("time without end", headers(MESSAGE, "99999999999999999999", FITS), BODY, Unverified::Timestamp),
            ("too old", headers(MESSAGE, &early, &early_signature), BODY, Unverified::TooOld),
            ("too new", headers(MESSAGE, &late, &late_signature), BODY, Unverified::TooNew),
            ("another time", headers(MESSAGE, "1614265331", FITS), BODY, Unverified::Mismatch),
            ("empty signature", headers(MESSAGE, time, ""), BODY, Unverified::NoSignature),
            ("without a version", headers(MESSAGE, time, &FITS[3..]), BODY, Unverified::NoSignature),
            ("another version", headers(MESSAGE, time, &version_2), BODY, Unverified::NoSignature),
            ("a cut signature", headers(MESSAGE, time, cut), BODY, Unverified::Mismatch),
            ("no signature behind the version", headers(MESSAGE, time, "v1,"), BODY, Unverified::Mismatch),
            ("another alphabet", headers(MESSAGE, time, &url_safe), BODY, Unverified::Mismatch),
            ("another's secret", headers(MESSAGE, time, &forged), BODY, Unverified::Mismatch),
            ("behind too many", headers(MESSAGE, time, &flood), BODY, Unverified::Mismatch),
            ("two in one", headers(MESSAGE, time, &twice), BODY, Unverified::Mismatch),
        ];
        for (what, headers, body, expected) in cases {
            assert_eq!(verifier().verify(headers, body, at(SENT_AT)), Err(expected), "{what}");
        }
        let written_anew = br#"{"test":2432232314}"#;
        for body in [&b""[..], written_anew, b"{\"test\": 2432232314}\n"] {
            let refused = verifier().verify(headers(MESSAGE, time, FITS), body, at(SENT_AT));
            assert_eq!(refused, Err(Unverified::Mismatch), "{}", String::from_utf8_lossy(body));
        }
        let large = vec![b' '; LIMIT + 1];
        let refused = verifier().verify(headers(MESSAGE, time, FITS), &large, at(SENT_AT));
        assert_eq!(refused, Err(Unverified::TooLarge { most: LIMIT }));
    }

    #[test]
    fn the_tolerance_holds_to_the_second_in_both_directions() {
        let verify = |now: i64| verifier().verify(headers(MESSAGE, "1614265330", FITS), BODY, at(now)).map(|_| ());
        assert_eq!(verify(SENT_AT + 300), Ok(()));
        assert_eq!(verify(SENT_AT + 301), Err(Unverified::TooOld));
        assert_eq!(verify(SENT_AT - 300), Ok(()));
        assert_eq!(verify(SENT_AT - 301), Err(Unverified::TooNew));
    }

    #[test]
    fn every_changed_bit_of_a_signature_is_noticed() {
        let right = STANDARD.decode(&FITS[3..]).expect("Base64");
        for bit in 0..right.len() * 8 {
            let mut wrong = right.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            let wrong = format!("v1,{}", STANDARD.encode(wrong));
            let refused = verifier().verify(headers(MESSAGE, "1614265330", &wrong), BODY, at(SENT_AT));
            assert_eq!(refused, Err(Unverified::Mismatch), "bit {bit}");
        }
    }

    #[test]
    fn secrets_are_long_enough_and_are_not_printed() {
        let short = format!("whsec_{}", STANDARD.encode([7; 23]));
        let long = format!("whsec_{}", STANDARD.encode([7; 65]));
        for bad in ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_not base64", &short, &long] {
            assert_eq!(Secret::parse(bad).expect_err(bad), SecretFault);
        }
        assert_eq!(format!("{:?}", secret(SECRET)), "Secret(..)");
    }
}
