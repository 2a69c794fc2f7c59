// A stage (collector, fleet, real agent) and a browser to look at it.
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';

export const root = path.resolve(path.dirname(new URL(import.meta.url).pathname), '../..');
const BROWSER = process.env.CHROMIUM ?? '/usr/bin/chromium';

/** Starts the stage and waits until all is up. */
export async function openStage(args = [], profile = 'debug') {
  const program = spawn(path.join(root, 'target', profile, 'pitwatch-stage'), args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = new Promise((resolve) => program.once('exit', resolve));
  const first = new Promise((resolve, reject) => {
    createInterface({ input: program.stdout }).once('line', (line) => resolve(JSON.parse(line)));
    program.once('error', reject);
    program.once('exit', (code) => reject(new Error(`the stage ended with ${code}`)));
  });
  const facts = await first;
  return {
    ...facts,
    async close() {
      program.stdin.end();
      await ended;
    },
  };
}

/** A browser with a profile of its own, which goes with it. */
export async function openBrowser(options = {}) {
  const profile = await mkdtemp(path.join(tmpdir(), 'pitwatch-browser-'));
  const flags = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: BROWSER,
    args: flags,
    viewport: { width: 1280, height: 800 },
    colorScheme: 'dark',
    timezoneId: 'Europe/Berlin',
    ...options,
  });
  return {
    context,
    async close() {
      await context.close();
      await rm(profile, { recursive: true, force: true });
    },
  };
}

/** Asks the collector as a program does. */
export async function api(stage, method, at, body, token = stage.admin) {
  const response = await fetch(stage.url + at, {
    method,
    headers: { authorization: `Bearer ${token}`, ...(body ? { 'content-type': 'application/json' } : {}) },
    body: body ? JSON.stringify(body) : undefined,
  });
  return { status: response.status, body: await response.json().catch(() => ({})) };
}

/** Signs a browser in without the form. */
export async function signIn(context, stage, token = stage.admin) {
  const response = await fetch(`${stage.url}/api/v1/pitwatch/session`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ token }),
  });
  const [pair] = response.headers.get('set-cookie').split(';');
  const [name, value] = pair.split('=');
  await context.addCookies([{ name, value, url: stage.url, httpOnly: true, sameSite: 'Strict' }]);
}

/** Waits until something is so. */
export async function until(what, check, ms = 20_000) {
  const end = Date.now() + ms;
  for (;;) {
    const answer = await check();
    if (answer) return answer;
    if (Date.now() > end) throw new Error(`not within ${ms} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}
