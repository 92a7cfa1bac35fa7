#!/bin/sh
# Azure Backup runs this with `sh` after its snapshot, and after every pre script that was started.
exec /usr/bin/snapfreeze hook azure-backup post "$@"
