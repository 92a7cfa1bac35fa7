//! One exit code for several backups.

/// Of several exit codes the one that counts: contract §4, from top to bottom. A code that is not in it counts as "other".
pub fn worst(codes: impl IntoIterator<Item = u8>) -> u8 {
    use protocol::code::exit::*;
    const ORDER: [u8; 11] =
        [LEFT_FROZEN, INTERRUPTED, FREEZE_FAILED, SNAPSHOT_FAILED, BROKEN, REFUSED, CLOUD_REFUSED, UNREACHABLE, USAGE, OTHER, DONE];
    let rank = |c: &u8| ORDER.iter().position(|o| o == c).unwrap_or(ORDER.len() - 2);
    codes.into_iter().min_by_key(rank).unwrap_or(DONE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Code;

    #[test]
    fn of_several_hosts_the_one_that_needs_a_person_most_gives_the_exit_code() {
        assert_eq!(worst([0, 3, 8, 6]), 8);
        assert_eq!(worst([0, 9, 4]), 4);
        assert_eq!(worst([130, 3, 7]), 130);
        assert_eq!(worst([0, 0]), 0);
        assert_eq!(worst([0, 77]), 77);
        for c in Code::ALL {
            assert_ne!(worst([0, c.exit()]), 0, "{c} is hidden by a success");
        }
    }
}
