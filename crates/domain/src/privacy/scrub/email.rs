//! E-mail addresses: something before the `@`, a domain with a dot or an address behind it.

/// Whether the `@` at `at` is one of an address.
pub(super) fn is_around(text: &[u8], at: usize) -> bool {
    let named = at > 0 && !matches!(text[at - 1], b' ' | b'\t' | b'@' | b',' | b';' | b'<' | b'(');
    named && is_domain(&text[at + 1..])
}

fn is_domain(text: &[u8]) -> bool {
    if text.first() == Some(&b'[') {
        return true;
    }
    let end = text.iter().position(|byte| !byte.is_ascii_alphanumeric() && !matches!(byte, b'-' | b'.'));
    let domain = text[..end.unwrap_or(text.len())].trim_ascii();
    let domain = domain.strip_suffix(b".").unwrap_or(domain);
    let mut labels = 0;
    let mut numbers = 0;
    let mut last = &domain[..0];
    for label in domain.split(|byte| *byte == b'.') {
        if label.is_empty() {
            break;
        }
        labels += 1;
        numbers += usize::from(label.iter().all(u8::is_ascii_digit));
        last = label;
    }
    let top_level = last.len() >= 2 && last[0].is_ascii_alphabetic();
    (labels >= 2 && top_level) || (labels == 4 && numbers == 4)
}
