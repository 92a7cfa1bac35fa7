# What the coordinator runs on a host: the agent, one verb, values in variables. No value is ever text of a line.
set -f
case "$SF_VERB" in
  facts) exec /usr/bin/snapfreeze facts --json --packed --id "$SF_ID" --hold "${SF_HOLD}ms" ;;
  status) exec /usr/bin/snapfreeze status --json --packed --id "$SF_ID" ;;
  freeze | backup)
    set -- --id "$SF_ID" --hold "${SF_HOLD}ms" --issued-at "$SF_ISSUED" --not-after "$SF_NOT_AFTER" --by "$SF_BY" "$@"
    if [ "$SF_VERB" = backup ]; then set -- --snapshotter command --policy "$SF_POLICY" "$@"; fi
    exec /usr/bin/snapfreeze "$SF_VERB" --json --packed "$@"
    ;;
  thaw) exec /usr/bin/snapfreeze thaw --json --packed --id "$SF_ID" --by "$SF_BY" ;;
esac
