//! What reads foreign bytes never panics, and what is written is read back.

use iris_sim::instance::accounts::Account;
use iris_sim::objectscript::parser;
use iris_sim::objectscript::value::{canonical, numeric};
use iris_sim::store::block::Block;
use iris_sim::store::database::{LABEL, Label};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn nodes() -> impl Strategy<Value = BTreeMap<String, String>> {
    proptest::collection::btree_map("\\^[A-Z]{1,8}\\([0-9]{1,4}\\)", "[ -~]{0,40}", 0..6)
}

proptest! {
    #[test]
    fn a_block_is_read_back_and_any_flipped_byte_is_found(
        nodes in nodes(), cycle in 0u64..1 << 40, lsn in any::<u64>(), number in 1u32..9999,
        at in 0usize..512, flip in 1u8..=255,
    ) {
        let block = Block { cycle, lsn, overflow: false, nodes };
        let mut bytes = block.encode(number, 512);
        prop_assert_eq!(Block::decode(&bytes, number), Ok(block));
        prop_assert!(Block::decode(&bytes, number + 1).is_err());
        bytes[at] ^= flip;
        prop_assert!(Block::decode(&bytes, number).is_err());
    }

    #[test]
    fn decoding_anything_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..9000), number in any::<u32>()) {
        let _ = Block::decode(&bytes, number);
        let _ = Label::decode(&bytes);
    }

    #[test]
    fn parsing_any_line_never_panics(line in "[ -~]{0,80}") {
        let _ = parser::parse(&line);
    }

    #[test]
    fn parsing_script_like_lines_never_panics(
        parts in proptest::collection::vec(
            prop_oneof![
                Just("s "), Just("w "), Just("d "), Just("i "), Just("f "), Just("x"), Just("="), Just("\""), Just("("),
                Just(")"), Just("{"), Just("}"), Just(","), Just("##class("), Just("."), Just("$s("), Just(":"), Just("1"),
                Just(" "), Just("_"), Just("!"), Just("^g("), Just("'"), Just("else "), Just("try { "), Just("catch "),
            ],
            0..30,
        )
    ) {
        let _ = parser::parse(&parts.concat());
    }

    #[test]
    fn numbers_keep_their_canonical_form(number in -1_000_000i64..1_000_000, thousandth in 0i64..1000) {
        let value = number as f64 + thousandth as f64 / 1000.0;
        let text = canonical(value);
        prop_assert!((numeric(&text) - value).abs() < 1e-6, "{} {}", text, value);
        prop_assert_eq!(canonical(numeric(&text)), text);
    }

    #[test]
    fn an_account_is_read_back(balance in any::<i64>(), group in any::<u64>(), sfn in any::<u16>(), key in "\\^ACCT\\([0-9]{1,5}\\)") {
        let account = Account { balance, group, partner: Some((sfn, key)) };
        prop_assert_eq!(Account::decode(&account.encode()), Some(account));
    }
}

#[test]
fn a_label_carries_the_vendors_marks() {
    let label = Label { directory: "/usr/irissys/mgr/user/".into(), ..Label::default() };
    let bytes = label.encode();
    assert_eq!(bytes.len(), LABEL);
    assert_eq!(&bytes[0x5F4..0x5FC], b"Cache DB");
    assert_eq!(&bytes[0x5FC..0x5FE], &22u16.to_le_bytes());
    assert_eq!(&bytes[0x5FE..0x5FE + 22], b"/usr/irissys/mgr/user/");
    assert!(bytes[0x6F0..0x720].windows(12).any(|w| w == b"%DB_%DEFAULT"));
    assert_eq!(Label::decode(&bytes), Some(label));
}
