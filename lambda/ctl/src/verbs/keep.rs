//! `keep`: a person's own word, which overrides retention. Written on every snapshot of the set in one call.

use super::catalogue::find;
use crate::cli::Keep;
use crate::out::{Out, usage};
use crate::say::{parse_day, when};
use coordinator::ops::catalogue;
use coordinator::ports::{Disks, Shelf};
use protocol::code::exit;
use protocol::tags::{PREFIX, VALUE_MAX, name, text};
use protocol::wire::Problem;
use serde_json::json;
use std::collections::BTreeMap;

/// Until further notice; the last day that every time zone can say.
const FOR_EVER: &str = "9999-12-30";

pub async fn keep(world: &(impl Shelf + Disks), args: &Keep, out: Out) -> Result<u8, Problem> {
    let until = parse_day(args.until.as_deref().unwrap_or(FOR_EVER))?;
    if args.reason.chars().count() > VALUE_MAX {
        return Err(usage(format!("the reason is longer than the {VALUE_MAX} characters that a tag takes")));
    }
    let all = catalogue(world).await?;
    let set = find(&all, &args.id)?;
    // An empty value reads as "not set", and needs no right to remove tags.
    let (until_tag, reason) = if args.drop { (String::new(), "") } else { (text::utc(until), args.reason.as_str()) };
    let tags = BTreeMap::from([
        (format!("{PREFIX}{}", name::KEEP_UNTIL), until_tag),
        (format!("{PREFIX}{}", name::KEEP_REASON), reason.to_owned()),
    ]);
    if !args.dry_run {
        world.tag(&set.ids(), &tags).await?;
    }
    let until = (!args.drop).then_some(until);
    out.object("keep", &json!({ "id": set.id, "until": until, "reason": reason, "dry_run": args.dry_run, "snapshots": set.ids() }));
    let would = if args.dry_run { "would be: " } else { "" };
    out.say(match until {
        None => format!("{would}{} follows the retention again", set.id),
        Some(until) => format!("{would}{} is kept until {}", set.id, when(until)),
    });
    Ok(exit::DONE)
}
