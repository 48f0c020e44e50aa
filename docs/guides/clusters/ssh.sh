#!/usr/bin/env bash
# A sweep on this machine and on others that ssh reaches without a password:
#   docs/guides/clusters/ssh.sh 10.0.0.1 'node1 node2' 'lr=0.003,0.01' 'seed=range(0,4)' --threads 4
# 10.0.0.1 is this machine as the others see it. They have the repository and its .venv at the same path.
set -euo pipefail
[ $# -ge 3 ] || { echo "usage: ssh.sh ADDRESS 'HOST...' KEY=VALUES..." >&2; exit 2; }
address=$1:6379
read -r -a hosts <<< "$2"
shift 2
. .venv/bin/activate

RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN
here=$(printf '%q' "$PWD")

# `ray stop` stops every Ray of yours on a machine, whichever sweep it belongs to.
stop() {
  for host in "${hosts[@]}"; do
    ssh "$host" "cd $here && . .venv/bin/activate && ray stop" || echo "ssh.sh: $host: run \`ray stop\` there" >&2
  done
  ray stop
}
trap stop EXIT

ray start --head --node-ip-address="${address%:*}" --port="${address##*:}" --include-dashboard=false
for host in "${hosts[@]}"; do
  # The token goes through stdin: other users can read a command line.
  ssh "$host" "read -r RAY_AUTH_TOKEN && export RAY_AUTH_TOKEN && cd $here && . .venv/bin/activate && \
    ray start --address=$address" <<< "$RAY_AUTH_TOKEN"
done
RAY_ADDRESS=$address reprocnn sweep "$@"
