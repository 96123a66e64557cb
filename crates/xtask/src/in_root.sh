#!/bin/sh
# Runs the program that has this script's name, of the RabbitMQ inside ../root, with the caller's temporary directory
# and network. What is mounted for it is seen by nobody else, and gone with it.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
temporary=${TMPDIR:-/tmp}
mkdir -p "$here/root$temporary"
exec unshare --mount --propagation private sh -c '
  mount -t proc proc "$1/proc"
  mount --bind "$2" "$1$2"
  root=$1 program=$3
  shift 3
  exec chroot "$root" "/usr/lib/rabbitmq/bin/$program" "$@"
' in_root "$here/root" "$temporary" "$(basename "$0")" "$@"
