#!/usr/bin/env bash
# A real SLURM of one node on this machine, without systemd: for tests, and to try launchers out.
#
#   scripts/local_slurm.sh start     install it (Debian, as root) if absent, start it, print SLURM_CONF
#   scripts/local_slurm.sh stop      end its daemons and the jobs; remove its folder
#   scripts/local_slurm.sh status    exit code 0 if it runs
#
#   eval "$(scripts/local_slurm.sh start)"   so that sbatch and the others find it
#
# Nothing of the machine is touched: its own folder, its own ports (KT_EXP_SLURM_PORT and the next),
# its own munge. Partitions: `low` (the default; its jobs may be preempted) and `high`.
set -euo pipefail

folder=${KT_EXP_SLURM:-/tmp/kt_exp_slurm}
port=${KT_EXP_SLURM_PORT:-26817}
export SLURM_CONF=$folder/slurm.conf
export PATH=$PATH:/usr/sbin:/sbin

running() { [ -f "$folder/$1.pid" ] && kill -0 "$(cat "$folder/$1.pid")" 2> /dev/null; }
up() { running munged && running slurmctld && running slurmd && [ "$(sinfo -h -o %t -p low)" != "" ]; }
idle() { sinfo -h -o %T 2> /dev/null | grep -qx -e idle -e mixed -e allocated; }

install() {
  for command in munged slurmctld slurmd srun sbatch; do
    command -v $command > /dev/null || missing=1
  done
  [ -n "${missing:-}" ] || return 0
  command -v apt-get > /dev/null && [ "$(id -u)" = 0 ] || {
    echo "local_slurm.sh: SLURM is absent: install slurm-wlm and munge (needs root)" >&2; exit 1; }
  { apt-get install -q -y --no-install-recommends slurm-wlm munge ||
    { apt-get update -q && apt-get install -q -y --no-install-recommends slurm-wlm munge; }; } >&2
}

configure() {
  local host cpus memory
  host=$(hostname -s) cpus=$(nproc)
  memory=$(awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo)
  # cred_expire is also how long a requeued job waits before it starts again (120 s by default).
  cat > "$SLURM_CONF" <<CONF
ClusterName=kt_exp
SlurmctldHost=$host(127.0.0.1)
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$folder/munge.socket,cred_expire=5
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
SlurmctldParameters=preempt_send_user_signal
SchedulerParameters=batch_sched_delay=0,sched_min_interval=100000,sched_interval=2,bf_interval=2
KillWait=5
ReturnToService=2
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=$memory State=UNKNOWN
PartitionName=low Nodes=$host Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=15
PartitionName=high Nodes=$host MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
CONF
}

start() {
  install
  up && return 0
  stop
  mkdir -p "$folder"/{state,spool}
  chmod 755 "$folder"
  configure
  (umask 077 && head -c 1024 /dev/urandom > "$folder/munge.key")
  munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" \
    --pid-file="$folder/munged.pid" --log-file="$folder/munged.log" \
    --seed-file="$folder/munge.seed" >&2
  slurmctld -f "$SLURM_CONF" >&2
  slurmd -f "$SLURM_CONF" -N "$(hostname -s)" >&2
  for _ in $(seq 100); do idle && return 0; sleep 0.2; done
  echo "local_slurm.sh: SLURM did not start; see $folder/*.log" >&2
  tail -n 5 "$folder"/*.log >&2
  exit 1
}

stop() {
  [ -d "$folder" ] || return 0
  if running slurmctld; then scancel --user="$(id -un)" > /dev/null 2>&1 || true; fi
  for daemon in slurmd slurmctld munged; do
    running $daemon || continue
    kill "$(cat "$folder/$daemon.pid")"
    for _ in $(seq 100); do running $daemon || break; sleep 0.1; done
  done
  rm -rf "$folder"
}

case ${1:-} in
  start) start; echo "export SLURM_CONF=$SLURM_CONF" ;;
  stop) stop ;;
  status) up && sinfo ;;
  *) sed -n '2,/^set/{/^#/p}' "$0" >&2; exit 2 ;;
esac
