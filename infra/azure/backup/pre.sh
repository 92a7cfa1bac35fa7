#!/bin/sh
# Azure Backup runs this with `sh` before its snapshot. `exec`: the time counts from the start of this shell.
exec /usr/bin/snapfreeze hook azure-backup pre "$@"
