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
  restore)
    set -- "$SF_STEP" "$SF_ID"
    case "$SF_STEP" in
      mount)
        set -- "$@" --set "$SF_SET"
        for v in $SF_VOLUMES; do set -- "$@" --volume "$v"; done
        ;;
      plan | run)
        set -- "$@" --until "$SF_UNTIL" --wij "$SF_WIJ"
        if [ "$SF_EVERYTHING" = yes ]; then set -- "$@" --everything; fi
        if [ "$SF_EVEN_IF_NOT_HELD" = yes ]; then set -- "$@" --even-if-not-held; fi
        ;;
    esac
    if [ "$SF_STEP" = run ]; then set -- "$@" --yes; fi
    exec /usr/bin/snapfreeze restore --json --packed "$@"
    ;;
  thaw) exec /usr/bin/snapfreeze thaw --json --packed --id "$SF_ID" --by "$SF_BY" ;;
esac
