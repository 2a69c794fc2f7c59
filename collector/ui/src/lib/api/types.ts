//! The shapes of docs/reference/http-api.md, as far as the pages read them.

export type Labels = Record<string, string>;

export type HostState = 'alerting' | 'silent' | 'well';

export interface HostAlert {
  name: string;
  summary: string | null;
  severity: string | null;
  fired_at_ms: number | null;
}

export interface Host {
  name: string;
  labels: Labels;
  state: HostState;
  since_ms: number | null;
  alerts: HostAlert[];
  connected: boolean;
  last_sample_ms: number | null;
  software: string;
  cpu_ratio: number | null;
  memory_ratio: number | null;
  disk_ratio: number | null;
  disk_mountpoint: string | null;
  network_bytes_per_second: number | null;
}

export interface Hosts {
  now_ms: number;
  counts: Record<HostState, number>;
  hosts: Host[];
}

export type AlertState = 'pending' | 'firing' | 'no_data' | 'resolved';

export interface Acknowledgement {
  by: string;
  at_ms: number;
  comment: string;
}

export interface Alert {
  fingerprint: string;
  labels: Labels;
  annotations: Labels;
  state: AlertState;
  active_since_ms: number;
  value: number | null;
  rule: string;
  expression: string;
  silenced_by: string[];
  inhibited_by: string[];
  acknowledged: Acknowledgement | null;
  assigned_to: string | null;
  incident: number | null;
}

export interface Alerts {
  alerts: Alert[];
  silenced: number;
}

export interface TimelineEntry {
  at_ms: number;
  what: string;
  fingerprint: string | null;
  by: string | null;
  text: string;
}

export interface Incident {
  id: number;
  cause: string;
  title: string;
  severity: string;
  state: 'open' | 'closed';
  opened_ms: number;
  closed_ms: number | null;
  acknowledged: Acknowledgement | null;
  assigned_to: string | null;
  /** Alerts that belonged to it, and those that fire now. */
  alerts: number;
  firing: number;
  timeline?: TimelineEntry[];
}

export interface SilenceMatcher {
  name: string;
  value: string;
  isRegex: boolean;
  isEqual: boolean;
}

/** Hours that come again, as Alertmanager writes them. */
export interface TimeInterval {
  times?: { start_time: string; end_time: string }[];
  weekdays?: string[];
  days_of_month?: string[];
  months?: string[];
  years?: string[];
  location?: string;
}

export interface Silence {
  id: string;
  matchers: SilenceMatcher[];
  startsAt: string;
  endsAt: string;
  createdBy: string;
  comment: string;
  recurrence?: TimeInterval[];
  status: { state: 'active' | 'pending' | 'expired' };
}

export interface HostEvent {
  id: string;
  time_ms: number;
  host: string;
  kind: string;
  severity: 'info' | 'warning' | 'critical';
  summary: string;
  labels: Labels;
}

export interface Events {
  events: HostEvent[];
  more: boolean;
}

export interface Agent {
  name: string;
  labels: Labels;
  state: 'connected' | 'away' | 'revoked';
  since_ms: number | null;
  last_seen_ms: number | null;
  last_sample_ms: number | null;
  software: string;
  remote_address: string | null;
  enrolled_ms: number;
  certificate_not_after_ms: number | null;
  fingerprint: string | null;
  clock_skew_ms: number | null;
  frames: number;
  lost_frames: number;
}

export interface Agents {
  now_ms: number;
  agents: Agent[];
}

export interface EnrolToken {
  token: string;
  expires_ms: number;
  collector: string | null;
}

export interface Receiver {
  name: string;
  kind: string;
  pending: number;
  delivered: number;
  failed: number;
  last_error: string | null;
}

export interface Room {
  name: string;
  block_bytes: number;
  block_samples: number;
  head_samples: number;
}

export interface Status {
  version: string;
  started_ms: number;
  now_ms: number;
  ready: boolean;
  not_ready_reason: string | null;
  agents: Record<string, number>;
  alerts: Record<string, number>;
  receivers: Receiver[];
  storage: {
    losses: string[];
    agents: Room[];
    agents_total: number;
    metrics: Room[];
    metrics_total: number;
    refused: { agent: string; refused_total: number; limit: string; label: string | null; last: string }[];
  };
  sections: Record<string, Record<string, string | number | boolean | null>>;
}

export interface Rule {
  name: string;
  query: string;
  type: 'alerting' | 'recording';
  health: 'ok' | 'err' | 'unknown';
  lastError?: string;
  evaluationTime: number;
  lastEvaluation: string;
  duration?: number;
}

export interface RuleGroups {
  groups: { name: string; file: string; interval: number; evaluationTime: number; lastEvaluation: string; rules: Rule[] }[];
}

export interface Session {
  name: string;
  role: 'viewer' | 'operator' | 'admin' | 'writer';
}

export type Point = [number, string];

export interface VectorSample {
  metric: Labels;
  value: Point;
}

export interface MatrixSeries {
  metric: Labels;
  values: Point[];
}

export interface QueryStats {
  timings: { evalTotalTime: number };
  samples: { totalQueryableSamples: number; peakSamples: number };
  pitwatch: Record<string, number | string>;
}

export type QueryData =
  | { resultType: 'vector'; result: VectorSample[]; stats?: QueryStats }
  | { resultType: 'matrix'; result: MatrixSeries[]; stats?: QueryStats }
  | { resultType: 'scalar' | 'string'; result: Point; stats?: QueryStats };
