#!/bin/sh
# Runs one command of otpd in production, as a Job with the rights of the user otpd-maintenance; prints what it prints, and ends
# with 0 where it did.
#
#   deploy/kubernetes/maintenance.sh dead list --younger-than 1h
#   NAMESPACE=otpd deploy/kubernetes/maintenance.sh topology apply
set -eu
if [ $# -eq 0 ]; then
  echo "usage: [NAMESPACE=otpd] $0 COMMAND OF otpd..." >&2
  exit 2
fi
namespace=${NAMESPACE:-otpd}
name="otpd-maintenance-$(date -u +%Y%m%d-%H%M%S)-$$"
# The arguments as a JSON list.
list=
for argument; do
  escaped=$(printf '%s' "$argument" | sed 's/\\/\\\\/g; s/"/\\"/g')
  list="$list${list:+, }\"$escaped\""
done
kubectl -n "$namespace" create job "$name" --from=cronjob/otpd-maintenance --dry-run=client -o yaml |
  kubectl patch --local -f - --type=json -o yaml \
    -p "[{\"op\": \"replace\", \"path\": \"/spec/template/spec/containers/0/args\", \"value\": [$list]}]" |
  kubectl -n "$namespace" create -f - >/dev/null
# Until it has ended, in whichever way.
while :; do
  conditions=$(kubectl -n "$namespace" get job "$name" -o 'jsonpath={.status.conditions[?(@.status=="True")].type}')
  case " $conditions " in
    *" Complete "*) ended=0 ;;
    *" Failed "*) ended=1 ;;
    *) sleep 1; continue ;;
  esac
  break
done
kubectl -n "$namespace" logs "job/$name" || true
exit "$ended"
