#!/usr/bin/env bash
# Runs pipelines/cluster/array.slurm on a Slurm of one node that is started for it and stopped after it, kills one of its
# tasks on the way, merges, and compares with a run without shards.
#
#   apt-get install --no-install-recommends slurm-wlm munge
#   tests/slurm/one_node.sh target/release/quarry [FOLDER]
#
# Needs root: the daemons want to be theirs. Touches nothing outside the folder.
set -euo pipefail
quarry=$(realpath "$1")
here=$(cd "$(dirname "$0")/../.." && pwd)
work=$(realpath "${2:-$(mktemp -d)}")
export SLURM_CONF="$work/slurm.conf" QUARRY_CACHE_DIR="$work/cache"
port=$((20000 + RANDOM % 20000))
host=$(hostname -s)
pids=()

finish() {
    code=$?
    [ "$code" -eq 0 ] || tail -n 30 "$work"/*.log "$work"/*.out 2>/dev/null >&2 || true
    # The children of a node's daemon are the tasks that are still at work.
    scancel --user "$(id -un)" >/dev/null 2>&1 || true
    for pid in $(printf '%s\n' "${pids[@]}" | tac); do
        kill "$pid" 2>/dev/null || true
    done
    for pid in "${pids[@]}"; do
        for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
        kill -9 "$pid" 2>/dev/null || true
    done
    exit "$code"
}
trap finish EXIT

wait_for() { # seconds, then a command that has to succeed
    for _ in $(seq $(($1 * 5))); do "${@:2}" >/dev/null 2>&1 && return; sleep 0.2; done
    echo "gave up waiting for: ${*:2}" >&2
    return 1
}

mkdir -p "$work"/{spool,state,munge,p/in,bin}
chmod 755 "$work"
chmod 700 "$work/munge"
dd if=/dev/urandom of="$work/munge/key" bs=1024 count=1 status=none
chmod 400 "$work/munge/key"
memory=$(($(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo) / 1024 - 512))

cat > "$SLURM_CONF" <<CONF
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$work/munge/socket
CryptoType=crypto/munge
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
MinJobAge=600
NodeName=$host NodeAddr=127.0.0.1 CPUs=16 RealMemory=$memory State=UNKNOWN
PartitionName=all Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
# Sixteen processors are told, whatever the node has: the array's tasks are to run side by side.
echo "SlurmdParameters=config_overrides" >> "$SLURM_CONF"

munged --foreground --force --key-file="$work/munge/key" --socket="$work/munge/socket" \
    --pid-file="$work/munge/pid" --log-file="$work/munge/log" --seed-file="$work/munge/seed" > "$work/munged.log" 2>&1 &
pids+=($!)
wait_for 20 test -S "$work/munge/socket"
slurmctld -D -f "$SLURM_CONF" > "$work/slurmctld.out.log" 2>&1 &
pids+=($!)
wait_for 30 scontrol ping
slurmd -D -f "$SLURM_CONF" > "$work/slurmd.out.log" 2>&1 &
pids+=($!)
wait_for 30 bash -c 'sinfo --noheader --format=%T | grep -q idle'

# A batch of two hundred notes, and a model that takes its time.
for n in $(seq -w 1 200); do
    printf 'Note %s.\nThe machine %s stands still since Monday.\n' "$n" "$n" > "$work/p/in/$n.txt"
done
echo '[{"answer": "It was said, and more.", "delay_ms": 40}]' > "$work/p/script.json"
cat > "$work/p/batch.yaml" <<'YAML'
version: 1
name: batch
model: { use: "scripted:script.json" }
sources: { notes: "in/*.txt" }
steps:
  - { id: answer, use: generate, prompt: "{{ doc.text }}", max_tokens: 50 }
outputs:
  - { name: page, path: "out/{{ doc.stem }}.md", content: steps.answer }
  - { name: all, path: out/all.jsonl, fields: { doc: doc.stem, answer: steps.answer }, key: doc.path }
run: { in_flight: 2 }
YAML
ln -s "$quarry" "$work/bin/quarry"
export PATH="$work/bin:$PATH"
cd "$work/p"

submit() { sbatch --parsable --output="$work/%A_%a.out" --mem=512M --time=10 "$@" "$here/pipelines/cluster/array.slurm" batch.yaml; }
states() { scontrol show job "$1" | sed -n 's/.*JobState=\([A-Z_]*\).*/\1/p' | sort | uniq -c | tr -s ' \n' ' '; }
is_over() { [ -z "$(squeue --noheader --jobs="$1" 2>/dev/null)" ]; }

job=$(submit)
echo "array job $job"
wait_for 60 bash -c "ls out/*.md"
# One task is ended as a node that fails would do it, and one as its time does: what they have not done is missed, and a
# second submission does it.
scancel --signal=KILL "${job}_2"
scancel --batch --signal=TERM "${job}_3"
wait_for 300 is_over "$job"
echo "first submission:$(states "$job")"
code=0
quarry merge batch.yaml > "$work/merge.out" || code=$?
grep '4 shards, 200 documents' "$work/merge.out"
grep -q '"is": "interrupted"' out/.quarry/batch/shard-3-of-4/run.json || { echo "task 3 did not end in order"; exit 1; }
[ "$code" -eq 7 ] || { echo "a merge without all of it ended with $code"; cat "$work/merge.out"; exit 1; }

job=$(submit)
wait_for 300 is_over "$job"
echo "second submission:$(states "$job")"
[ "$(states "$job" | tr -d ' ')" = 4COMPLETED ] || { echo "the array did not complete"; exit 1; }
quarry merge batch.yaml
quarry run batch.yaml --quiet # nothing is left to do

mkdir "$work/alone"
cp -r batch.yaml script.json in "$work/alone/"
cd "$work/alone"
quarry run batch.yaml --quiet
diff -r --exclude=.quarry "$work/p/out" "$work/alone/out"
echo "$(find out -name '*.md' | wc -l) pages and a table: the same bytes as those of a run without shards"
