#!/usr/bin/env bash
# A real SLURM of one node on this machine, without systemd: for tests, and to try launchers out.
#
#   scripts/local_slurm.sh start     install it (Debian, as root) if absent, start it, print SLURM_CONF
#   scripts/local_slurm.sh stop      end its daemons and the jobs; remove its folder
#   scripts/local_slurm.sh status    exit code 0 if it runs
#
#   eval "$(scripts/local_slurm.sh start)"   so that sbatch and the others find it
#
# Nothing of the machine is touched: its own folder (KT_EXP_SLURM), its own ports (KT_EXP_SLURM_PORT
# and the next), its own munge. Partitions: `low` (the default; its jobs may be preempted) and `high`.
set -euo pipefail

folder=${KT_EXP_SLURM:-/tmp/kt_exp_slurm}
port=${KT_EXP_SLURM_PORT:-26817}
export SLURM_CONF=$folder/slurm.conf
export PATH=$PATH:/usr/sbin:/sbin

mark='# made by scripts/local_slurm.sh'
ours() { [ -f "$SLURM_CONF" ] && [ "$(head -n 1 "$SLURM_CONF")" = "$mark" ]; }
pid() { cat "$folder/$1.pid" 2> /dev/null; }
running() { [ "$(cat "/proc/$(pid "$1")/comm" 2> /dev/null)" = "$1" ]; }
up() { running munged && running slurmctld && running slurmd && [ "$(sinfo -h -o %t -p low)" != "" ]; }
answers() {  # within two minutes: a busy machine may take its time
  for n in $(seq 600); do
    sinfo -h -o %T 2> /dev/null | grep -qx -e idle -e mixed -e allocated && return 0
    [ "$n" -lt 50 ] || { running slurmctld && running slurmd; } || return 1
    sleep 0.2
  done
  return 1
}

install() {
  for command in munged slurmctld slurmd srun sbatch; do
    command -v $command > /dev/null || missing=1
  done
  [ -n "${missing:-}" ] || return 0
  command -v apt-get > /dev/null && [ "$(id -u)" = 0 ] || {
    echo "local_slurm.sh: SLURM is absent: install slurm-wlm and munge (needs root)" >&2; exit 1; }
  local get="apt-get install -q -y --no-install-recommends slurm-wlm munge"
  export DEBIAN_FRONTEND=noninteractive
  { $get || { apt-get update -q && $get; }; } >&2
}

configure() {
  local host cpus memory
  host=$(uname -n) host=${host%%.*}
  # OMP_NUM_THREADS would change what nproc says. Two jobs shall fit at the same time, whatever it is.
  cpus=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc)
  [ "$cpus" -gt 1 ] || cpus=2
  memory=$(awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo)
  # In a container they may be read-only, and slurmd would not start.
  echo CgroupPlugin=disabled > "$folder/cgroup.conf"
  # cred_expire is also how long a requeued job waits before it starts again (120 s by default).
  cat > "$SLURM_CONF" <<CONF
$mark
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
SlurmdParameters=config_overrides
ReturnToService=2
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=$memory State=UNKNOWN
PartitionName=low Nodes=$host Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=120
PartitionName=high Nodes=$host MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
CONF
}

start() {
  install
  up && return 0
  if [ -e "$folder" ] && ! ours && [ -n "$(ls -A "$folder")" ]; then
    echo "local_slurm.sh: $folder holds other things: name another folder in KT_EXP_SLURM" >&2
    exit 2
  fi
  stop
  mkdir -p "$folder"/{state,spool}
  chmod 755 "$folder"
  configure
  (umask 077 && head -c 1024 /dev/urandom > "$folder/munge.key")
  if ! { daemons >&2 && answers; }; then
    echo "local_slurm.sh: SLURM did not start:" >&2
    tail -n 5 "$folder"/*.log >&2 || true
    stop
    exit 1
  fi
}

daemons() {
  munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" \
    --pid-file="$folder/munged.pid" --log-file="$folder/munged.log" \
    --seed-file="$folder/munge.seed" &&
    slurmctld -f "$SLURM_CONF" && slurmd -f "$SLURM_CONF"
}

stop() {
  ours || return 0
  if running slurmctld && running munged; then
    scancel --user="$(id -u)" > /dev/null 2>&1 || true
    # The jobs save what they have, or are killed, before slurmd goes.
    for _ in $(seq 100); do [ -n "$(squeue -h 2> /dev/null)" ] || break; sleep 0.2; done
  fi
  for daemon in slurmd slurmctld munged; do
    running $daemon || continue
    kill "$(pid $daemon)"
    for _ in $(seq 150); do running $daemon || break; sleep 0.1; done
    ! running $daemon || kill -9 "$(pid $daemon)"
  done
  rm -rf "$folder"
}

case ${1:-} in
  start) start; echo "export SLURM_CONF=$SLURM_CONF" ;;
  stop) stop ;;
  status) up && sinfo ;;
  *) sed -n '2,/^set/{/^#/p}' "$0" >&2; exit 2 ;;
esac
