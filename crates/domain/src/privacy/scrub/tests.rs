//! What is taken for personal data and what is not, form by form. Numbers are made up or published as examples.

use super::*;

#[test]
fn cards_in_every_usual_form_are_found() {
    for card in [
        "4111111111111111",
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "4111.1111.1111.1111",
        "4111_1111_1111_1111",
        "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
        "5500000000000004",
        "2223003122003222",
        "3782 822463 10005",
        "378282246310005",
        "30569309025904",
        "6011111111111117",
        "3530111333300000",
        "6200000000000005",
        "4222222222222",
        "card:4111111111111111",
        "CUST-4111111111111111",
        "CUST4111111111111111",
        "4111111111111111x",
        "pay 4111 1111 1111 1111 now",
        "req_4111-1111-1111-1111_1",
        "４１１１ １１１１ １１１１ １１１１",
        "4111\u{a0}1111\u{2011}1111\u{2013}1111",
        "4111%201111%201111%201111",
        "4111\u{200b}1111\u{200b}1111\u{200b}1111",
        "id-550e8400-e29b-41d4-a716-446655440000-4111111111111111",
    ] {
        assert_eq!(find(card), Some(Personal::Card), "{card}");
    }
}

#[test]
fn phone_numbers_in_every_usual_form_are_found() {
    for phone in [
        "+14155550123",
        "+1 415 555 0123",
        "+1 (415) 555-0123",
        "+1-415-555-0123",
        "+49 (0)151 12345678",
        "+49 30 901820",
        "+4915112345678",
        "tel:+4915112345678",
        "sip+4915112345678",
        "call +44 20 7946 0958 today",
        "%2B14155550123",
        "＋14155550123",
        "+14155550123x55",
        "(+1) 415-555-0123",
        "(415) 555-0123",
        "(415)555-0123",
        "415-555-0123",
        "415.555.0123",
        "415 555 0123",
        "1-800-555-0199",
        "4155550123",
        "14155550123",
        "tel:4155550123",
        "0151 23456789",
        "0151-23456789",
        "015123456789",
        "030/1234567",
        "(030) 1234567",
        "020 7946 0958",
        "01 23 45 67 89",
        "01.23.45.67.89",
        "0049 30 1234567",
        "00493012345678",
        "612 345 678",
        "98765 43210",
        "12 34 56 78",
        "(11) 91234-5678",
        "CUST-415-555-0123",
    ] {
        assert_eq!(find(phone), Some(Personal::Phone), "{phone}");
    }
}

#[test]
fn addresses_accounts_and_security_numbers_are_found() {
    for (text, kind) in [
        ("jane.doe@example.com", Personal::Email),
        ("jane+tag@mail.example.co.uk", Personal::Email),
        ("<jane@example.org>", Personal::Email),
        ("mailto:jane@example.org", Personal::Email),
        ("jane%40example.org", Personal::Email),
        ("jane＠example.org", Personal::Email),
        ("jürgen@müller.de", Personal::Email),
        ("jane@xn--mller-kva.example", Personal::Email),
        ("user@[10.0.0.1]", Personal::Email),
        ("user@10.0.0.1", Personal::Email),
        ("CUST:jane@example.com.", Personal::Email),
        ("123-45-6789", Personal::SocialSecurity),
        ("123 45 6789", Personal::SocialSecurity),
        ("ssn=123-45-6789", Personal::SocialSecurity),
        ("DE89370400440532013000", Personal::Iban),
        ("DE89 3704 0044 0532 0130 00", Personal::Iban),
        ("gb82 west 1234 5698 7654 32", Personal::Iban),
        ("account FR1420041010050500013M02606", Personal::Iban),
        ("NL91ABNA0417164300", Personal::Iban),
        ("NO9386011117947", Personal::Iban),
    ] {
        assert_eq!(find(text), Some(kind), "{text}");
    }
}

#[test]
fn what_systems_make_up_is_left_alone() {
    for id in [
        "",
        "1",
        "CUST-12345",
        "customer-0001",
        "C-998877",
        "req-998877",
        "ABC 123",
        "0012v00002abcdEAAQ",
        "0012v00002abcde",
        "1000234567",
        "12345678",
        "123456789",
        "1234567890123",
        "0000123456",
        "0012345678",
        "4111111111111112",
        "9999999999999999",
        "00000000-0000-0000-0000-000000000000",
        "550e8400-e29b-41d4-a716-446655440000",
        "urn:uuid:41111111-1111-4111-8111-111111111111",
        "req-41111111-1111-4111-8111-111111111111",
        "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "01890a5d-ac96-774b-bcce-b302099a8057",
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "n4bQgYhMfWWaL-qgxVrQFaO_TxsrC4Is0V1sFbDwCgg",
        "n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=",
        "507f1f77bcf86cd799439011",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "1-5759e988-bd862e3fe1be46a994272793",
        "arn:aws:connect:eu-central-1:123456789012:instance",
        "2026-11-21T10:00:00Z",
        "2026-11-21T10:00:00.123456789+01:00",
        "req-2026-11-21T10:00:00.123456789Z",
        "01.02.2026 10:30",
        "1732185600000",
        "1732185600.123456",
        "v1.2.3",
        "10.0.0.1",
        "paid_search",
        "Organic Search",
        "email",
        "@home",
        "clv@v1",
        "model@1.2.3",
        "C++ 17",
        "age 25-34",
        "income 40000-60000",
        "40000 - 60000",
        "2024 2025 2026",
        "über 60",
        "50 % off",
        "100%",
        "A/B",
        "DE12",
        "NO",
        "cus_4QFJVjUkoPo8Pq",
    ] {
        assert_eq!(find(id), None, "{id}");
    }
}

#[test]
fn texts_of_any_length_and_script_are_read_to_their_end() {
    for filler in ["x ", "é ", "%41 ", "１ a "] {
        for count in [0, 1, 60, 130, 1000] {
            let text = format!("{}jane@example.org", filler.repeat(count));
            assert_eq!(find(&text), Some(Personal::Email), "{filler:?} {count} times");
        }
    }
    assert_eq!(find(&"7 ".repeat(500)), None);
    for odd in ["%", "%4", "%zz", "%é", "%%41", "é%", "+", "+1", "@", "a@", "(", "((((", "-", "é@é"] {
        assert_eq!(find(odd), None, "{odd}");
    }
}
