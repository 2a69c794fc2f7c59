//! What the help teaches by example.

pub(super) const EXAMPLES: &str = "\
Examples:
  pitwatch hosts                                  every host, the worst first
  pitwatch top                                    the same, live
  pitwatch host db-eu-3 --time -2h                one host, two hours ago: who did it?
  pitwatch alerts                                 what is wrong now
  pitwatch query 'node_load1'                     one value a series, now
  pitwatch query 'topk(3, rate(node_network_receive_bytes_total[1m]))'
  pitwatch query 'node_load1' --range 1h -o plot  a chart in the terminal
  pitwatch query 'node_load1' --time -2h          two hours ago
  pitwatch token create --name db-eu-3            a line to paste on the new host
  pitwatch doctor                                 what is wrong with Pitwatch itself
  pitwatch hosts -o json | jq '.data.hosts[].name'

On the collector's host the address and a token are found by themselves.
From elsewhere: PITWATCH_COLLECTOR=HOST:4718 PITWATCH_TOKEN=pwa1_… pitwatch hosts

Exit status: 0 good, 1 the answer is bad news, 2 usage, 3 cannot reach or not allowed.";

pub(super) const QUERY_EXAMPLES: &str = "\
Examples:
  pitwatch query 'node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes'
      memory that is left on every host, as a share
  pitwatch query 'topk(5, sum by (instance) (rate(node_cpu_seconds_total{mode!=\"idle\"}[1m])))'
      the five busiest hosts
  pitwatch query 'node_load1{instance=\"db-eu-3\"}' --range 6h --step 1m -o csv > load.csv
  pitwatch query 'rate(node_disk_written_bytes_total[1m])' --range 15m -o plot
  pitwatch query 'up' --time 2026-03-01T02:14:00Z
  pitwatch query 'count by (__name__) ({__name__!=\"\"})' --explain
      what it touches, and how long each stage takes

Times: now, -5m (ago), seconds since 1970, or a date such as 2026-03-01T02:14:00Z or '2026-03-01 02:14'.";

pub(super) const EVENTS_EXAMPLES: &str = "\
Examples:
  pitwatch events                                  the last 100 of the last week
  pitwatch events --host db-eu-3 --since 2h
  pitwatch events --kind oom_kill --kind disk_error --since 30d -o csv
  pitwatch events --severity critical -o json | jq '.data.events[].summary'

Kinds: reboot, oom_kill, disk_error, clock_step, filesystem_readonly, unit_failed, unit_recovered,
process_started, process_stopped, process_crashed, process_oom_killed, config_refused, config_reloaded, self_limit.
In rules: increase(pitwatch_events_total{kind=\"oom_kill\"}[5m]) > 0";

pub(super) const TOKEN_EXAMPLES: &str = "\
Examples:
  pitwatch token create --name db-eu-3             one agent may enrol, as db-eu-3, within 1 h
  pitwatch token create --ttl 1d                   one agent may enrol under any free name
  pitwatch token create --role viewer --for grafana
      a token for the HTTP API; roles are writer, viewer, operator and admin";

pub(super) const RULES_EXAMPLES: &str = "\
Examples:
  pitwatch rules                                  every rule, those that fail first
  pitwatch rules check /etc/pitwatch/rules/*.yml  before they are put in place
  pitwatch rules test tests/*.yml                 promtool's unit tests, with the same verdicts
  pitwatch rules preview new.yml --since 7d       would have fired how often, where
  pitwatch rules reload                           the collector does so by itself when a file changes

Exit status of check and test: 0 all good, 1 mistakes or failures.";

pub(super) const ALERTS_EXAMPLES: &str = "\
Examples:
  pitwatch alerts                                 what is wrong now, with each alert's fingerprint
  pitwatch alerts ack 53a9953278b50841 -c 'on it' nobody is told again until it is over
  pitwatch alerts assign 53a9953278b50841 ann
  pitwatch alerts comment 53a9953278b50841 'waits for the vendor'";

pub(super) const SILENCE_EXAMPLES: &str = "\
Examples:
  pitwatch silence preview 'instance=~db-.*'      what it would hold back now
  pitwatch silence add HostDiskFull instance=db-3 --for 2h --comment 'disk swap'
  pitwatch silence add role=game --every 'sat,sun 02:00-04:00' --zone Europe/Berlin --comment 'weekly maintenance'
  pitwatch silence list --all
  pitwatch silence edit ID --for 4h               four hours from now, however it was
  pitwatch silence edit ID --comment 'the swap takes longer'
  pitwatch silence expire ID

Matchers: label=value, label!=value, label=~pattern, label!~pattern; a first word alone is the alert's name.
amtool works too: amtool --alertmanager.url=http://x:TOKEN@127.0.0.1:4718 silence query";

pub(super) const HOST_EXAMPLES: &str = "\
Examples:
  pitwatch host db-eu-3              how it is, and who works on it
  pitwatch host db-eu-3 --time -2h   the same two hours ago: who did it?
  pitwatch host db-eu-3 -o json | jq '.processes[0]'

Exit status 1 if the host is not well now.";

pub(super) const TOP_HELP: &str = "\
Keys: ↑ ↓ or j k choose, Enter opens the host, Esc goes back, / filters, s sorts by the next column, ? help, q quits.
Where standard output is no terminal, it is written once. No colour with NO_COLOR.";

pub(super) const DOCTOR_HELP: &str = "\
Looks at: whether the collector is ready and its disk has room, what it lost or refused, rules that fail, receivers that
take nothing, agents that are away, late, wrong in their clock or version, certificates near their end, spools that grow.
On an agent's own host, `pitwatch-agent doctor` looks from the other side.

Exit status: 0 nothing found, 1 something is wrong, 3 the collector cannot be reached (and what was found about that).";

pub(super) const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  pitwatch completions bash > ~/.local/share/bash-completion/completions/pitwatch
  pitwatch completions zsh > ~/.zfunc/_pitwatch        (with fpath+=~/.zfunc before compinit)
  pitwatch completions fish > ~/.config/fish/completions/pitwatch.fish";
