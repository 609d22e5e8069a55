#!/bin/sh
# Records a trace of KVM's MMU on a stock kernel, for `x86-paging trace`. Wants root, and trace-cmd or tracefs alone.
#
#     record-kvm-trace.sh [-p PID] [-t SECONDS] [-b KIB] [-c CPU,CPU...] [-a] [-o FILE]
#
# See docs/traces.md. Nothing is left behind: without trace-cmd an instance of tracefs is made and removed.
set -eu

pid= seconds=10 buffer=65536 cpus= all= out=kvm-trace
usage() {
  cat <<'TEXT'
usage: record-kvm-trace.sh [-p PID] [-t SECONDS] [-b KIB] [-c CPU,CPU...] [-a] [-o FILE]
  -p PID       the process of the virtual machine (QEMU): its threads alone are traced
  -t SECONDS   how long (default 10)
  -b KIB       buffer of each processor (default 65536)
  -c CPUS      pin the threads of vCPUs, one to each of these processors (wants -p; undone at the end)
  -a           all kvm events, not only those that the analysis uses
  -o FILE      where the trace goes (default kvm-trace: .dat with trace-cmd, else .txt.gz)
TEXT
}
while getopts p:t:b:c:ao:h option; do
  case $option in
    p) pid=$OPTARG ;;
    t) seconds=$OPTARG ;;
    b) buffer=$OPTARG ;;
    c) cpus=$OPTARG ;;
    a) all=1 ;;
    o) out=$OPTARG ;;
    h) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
done
for number in "$seconds" "$buffer" "${pid:-0}"; do
  case $number in
    '' | *[!0-9]*) echo "expected a number, found $number" >&2; exit 2 ;;
  esac
done
[ "$(id -u)" = 0 ] || { echo "expected root: tracing is not for others" >&2; exit 2; }
[ -z "$pid" ] || [ -d "/proc/$pid/task" ] || { echo "there is no process $pid" >&2; exit 2; }
[ -z "$cpus" ] || [ -n "$pid" ] || { echo "-c wants -p: whose threads are to be pinned?" >&2; exit 2; }

tracefs=/sys/kernel/tracing
[ -d "$tracefs/events" ] || tracefs=/sys/kernel/debug/tracing
[ -d "$tracefs/events" ] || mount -t tracefs nodev /sys/kernel/tracing 2>/dev/null || true
[ -d "$tracefs/events" ] || tracefs=/sys/kernel/tracing
[ -d "$tracefs/events/kvmmmu" ] || { echo "$tracefs/events has no kvmmmu: is the module kvm loaded?" >&2; exit 2; }

# What tells entries, exits, switches and resets apart, of all that there are.
kvm_events="kvm_entry kvm_exit kvm_page_fault kvm_nested_vmenter kvm_nested_vmrun kvm_nested_vmexit kvm_nested_vmexit_inject
  kvm_smm_transition kvm_enter_smm kvm_cr kvm_msr kvm_emulate_insn kvm_unmap_hva_range kvm_age_hva"
if [ -n "$all" ]; then events="kvm"; else
  events=
  for event in $kvm_events; do [ ! -d "$tracefs/events/kvm/$event" ] || events="$events kvm:$event"; done
fi
events="$events kvmmmu"

pinned= pin_done=
unpin() {
  for one in $pinned; do taskset -p "${one#*=}" "${one%%=*}" >/dev/null 2>&1 || true; done
}
pin() {
  rest=$cpus
  for task in "/proc/$pid/task"/*; do
    # QEMU calls them "CPU 0/KVM".
    case $(cat "$task/comm") in CPU*KVM*) ;; *) continue ;; esac
    [ -n "$rest" ] || { echo "fewer processors than vCPUs: the others are not pinned" >&2; return; }
    thread=${task##*/}
    mask=$(taskset -p "$thread" | sed 's/.*: //')
    taskset -pc "${rest%%,*}" "$thread" >/dev/null && pinned="$pinned $thread=$mask"
    case $rest in *,*) rest=${rest#*,} ;; *) rest= ;; esac
  done
}

if command -v trace-cmd >/dev/null 2>&1; then
  trap unpin EXIT
  trap 'exit 130' INT TERM
  [ -z "$cpus" ] || pin
  pin_done=1
  set -- record -o "$out.dat" -b "$buffer" -C mono
  for event in $events; do set -- "$@" -e "$event"; done
  if [ -n "$pid" ]; then
    for task in "/proc/$pid/task"/*; do set -- "$@" -P "${task##*/}"; done
  fi
  if trace-cmd "$@" sleep "$seconds" >/dev/null; then
    echo "x86-paging trace $out.dat"
    exit
  fi
  echo "trace-cmd failed: tracefs is used without it" >&2
fi

instance=$tracefs/instances/x86-paging-$$
mkdir "$instance"
finish() {
  unpin
  echo 0 >"$instance/tracing_on" || true
  for event in $events; do
    system=${event%%:*}
    name=${event#"$system"}
    echo 0 >"$instance/events/$system${name:+/${name#:}}/enable" || true
  done
  rmdir "$instance"
}
trap finish EXIT
trap 'exit 130' INT TERM
[ -z "$cpus" ] || [ -n "$pin_done" ] || pin
echo 0 >"$instance/tracing_on"
echo mono >"$instance/trace_clock"
echo "$buffer" >"$instance/buffer_size_kb"
if [ -n "$pid" ]; then
  for task in "/proc/$pid/task"/*; do echo "${task##*/}"; done >"$instance/set_event_pid"
fi
for event in $events; do
  system=${event%%:*}
  name=${event#"$system"}
  echo 1 >"$instance/events/$system${name:+/${name#:}}/enable"
done
echo 1 >"$instance/tracing_on"
sleep "$seconds"
echo 0 >"$instance/tracing_on"
cat "$instance/trace" | gzip -c >"$out.txt.gz"
echo "x86-paging trace $out.txt.gz"
