//! One way to ask the collector: an answer, or a problem that says what happened in words.

export type ProblemKind = 'unreachable' | 'signed-out' | 'refused' | 'missing' | 'wrong' | 'failed';

export class Problem extends Error {
  constructor(
    readonly kind: ProblemKind,
    message: string,
    readonly status = 0,
  ) {
    super(message);
  }
}

type Query = Record<string, string | number | readonly string[] | undefined>;

export interface Asked<T> {
  data: T;
  warnings: string[];
  infos: string[];
}

let onSignedOut: () => void = () => {};

/** What to do when an answer says that nobody is signed in. */
export function whenSignedOut(then: () => void): void {
  onSignedOut = then;
}

function encoded(query: Query): URLSearchParams {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value === undefined) continue;
    for (const one of Array.isArray(value) ? (value as readonly string[]) : [String(value)]) params.append(name, one);
  }
  return params;
}

function problemOf(status: number, body: unknown): Problem {
  const said = typeof body === 'object' && body !== null && 'error' in body ? String(body.error) : `HTTP ${status}`;
  switch (status) {
    case 401:
      return new Problem('signed-out', said, status);
    case 403:
      return new Problem('refused', said, status);
    case 404:
      return new Problem('missing', said, status);
    case 400:
    case 409:
    case 413:
    case 422:
      return new Problem('wrong', said, status);
    default:
      return new Problem('failed', said, status);
  }
}

async function send(path: string, init: RequestInit, signal?: AbortSignal): Promise<unknown> {
  let response: Response;
  let body: unknown;
  try {
    response = await fetch(path, { ...init, signal: signal ?? null, credentials: 'same-origin' });
    const text = await response.text();
    body = text ? (JSON.parse(text) as unknown) : {};
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem('unreachable', error instanceof SyntaxError ? 'the answer is not of this collector' : 'the collector does not answer');
  }
  if (response.ok) return body;
  const problem = problemOf(response.status, body);
  if (problem.kind === 'signed-out') onSignedOut();
  throw problem;
}

export async function ask<T>(path: string, query: Query = {}, signal?: AbortSignal): Promise<Asked<T>> {
  const params = encoded(query).toString();
  const body = await send(params ? `${path}?${params}` : path, {}, signal);
  const { data, warnings, infos } = body as { data: T; warnings?: string[]; infos?: string[] };
  return { data, warnings: warnings ?? [], infos: infos ?? [] };
}

export async function get<T>(path: string, query: Query = {}, signal?: AbortSignal): Promise<T> {
  return (await ask<T>(path, query, signal)).data;
}

/** Queries may be long: as a form. */
export async function form<T>(path: string, query: Query, signal?: AbortSignal): Promise<Asked<T>> {
  const body = await send(path, { method: 'POST', body: encoded(query) }, signal);
  const { data, warnings, infos } = body as { data: T; warnings?: string[]; infos?: string[] };
  return { data, warnings: warnings ?? [], infos: infos ?? [] };
}

export async function change<T>(method: 'POST' | 'PUT' | 'DELETE', path: string, body?: unknown): Promise<T> {
  const init: RequestInit = { method };
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers = { 'content-type': 'application/json' };
  }
  const answer = await send(path, init);
  return (typeof answer === 'object' && answer !== null && 'data' in answer ? answer.data : answer) as T;
}

/** Alertmanager's endpoints answer without an envelope. */
export async function bare<T>(path: string, query: Query = {}, signal?: AbortSignal): Promise<T> {
  const params = encoded(query).toString();
  return (await send(params ? `${path}?${params}` : path, {}, signal)) as T;
}
