// The web interface as a person uses it: a real browser, a real collector, a made-up fleet with one sick host, and a
// real agent whose labels and processes try to be script. UI_HOSTS sets the size of the fleet.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import { api, openBrowser, openStage, signIn, until } from './stage.mjs';

const HOSTS = Number(process.env.UI_HOSTS ?? 1000);
const AXE = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const limit = { timeout: 120_000 };

let stage;
let browser;
let page;
/** What the browser complained about, and what it asked of others than the collector. */
const complaints = [];
const strangers = [];

before(async () => {
  stage = await openStage(['--hosts', String(HOSTS), '--seconds', '900'], process.env.UI_PROFILE ?? 'debug');
  browser = await openBrowser();
  page = await newPage();
}, { timeout: 300_000 });

after(async () => {
  await browser?.close();
  await stage?.close();
});

async function newPage() {
  const opened = await browser.context.newPage();
  opened.on('pageerror', (error) => complaints.push(`${opened.url()}: ${error.message}`));
  opened.on('console', (message) => {
    const text = message.text();
    // A refusal that a test provokes is logged by the browser as a failed load.
    if (message.type() === 'error' && !text.startsWith('Failed to load resource')) complaints.push(`${opened.url()}: ${text}`);
  });
  opened.on('request', (request) => {
    const url = request.url();
    if (!url.startsWith(stage.url) && !url.startsWith('data:')) strangers.push(url);
  });
  return opened;
}

/** No serious violation of accessibility on what is shown. */
async function accessible(what) {
  // The page's policy allows no script of ours: the browser's own channel evaluates it.
  const result = await page.evaluate(`${AXE}; axe.run(document, { resultTypes: ['violations'] })`);
  const serious = result.violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
  assert.deepEqual(serious.map(({ id, nodes }) => `${what}: ${id}: ${nodes.slice(0, 3).map((node) => node.html).join(' ')}`), []);
}

async function harmless() {
  assert.equal(await page.evaluate(() => window.pwned), undefined, 'a text of a host ran as script');
}

test('a wrong token is refused in words, a right one signs in', limit, async () => {
  await page.goto(stage.url);
  await page.getByLabel('Token').fill(`pwa1_${'0'.repeat(32)}`);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByText('The token is wrong').waitFor();
  await accessible('sign-in');
  await page.getByLabel('Token').fill(stage.admin);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('navigation', { name: 'Pages' }).waitFor();
  const cookie = (await browser.context.cookies()).find(({ name }) => name === 'pitwatch_session');
  assert.ok(cookie.httpOnly && cookie.sameSite === 'Strict', JSON.stringify(cookie));
});

test('the fleet shows the sick host first, and every host a mark', limit, async () => {
  await page.goto(stage.url);
  const first = page.locator('.complaint').first();
  await until('the sick host fires', async () => (await first.count()) && (await first.innerText()).includes(stage.sick), 60_000);
  assert.match(await first.innerText(), /critical[\s\S]*All cores of \S+ are busy/);
  // The fleet, the one that is gone, and the real one.
  assert.equal(await page.locator('a[data-host]').count(), HOSTS + 2);
  assert.match(await page.locator('.complaint', { hasText: stage.gone }).innerText(), /silent/);
  await accessible('fleet');
  await page.getByRole('button', { name: 'rows' }).click();
  await page.locator('[data-row]').first().waitFor();
  assert.ok((await page.locator('[data-row]').count()) < 120, 'only rows in sight are in the page');
  await accessible('fleet, rows');
  await page.keyboard.press('/');
  await page.keyboard.type(stage.gone);
  await page.keyboard.press('Enter');
  await until('the search narrows', async () => (await page.locator('a[data-host]').count()) < HOSTS / 4);
  assert.match(page.url(), new RegExp(`q=${stage.gone}`));
  await harmless();
});

test('from the sick host to the process that did it', limit, async () => {
  await page.goto(stage.url);
  await page.locator('.complaint', { hasText: stage.sick }).click();
  await page.getByRole('heading', { name: stage.sick }).waitFor();
  await page.locator('.live', { hasText: /live$/ }).waitFor();
  await until('the numbers are live', async () => /9\d(\.\d)?%/.test((await page.locator('[data-vital=cpu]').innerText()).replace(/\s/g, '')));
  await page.locator('[data-panel=cpu][data-drawn=yes]').waitFor();
  const row = page.locator('[data-culprits] tbody tr').first();
  await row.waitFor();
  assert.match(await row.innerText(), /postgres\s+2210\s+162%/);
  // A click on a chart pins the moment, and a link to it opens the same.
  await page.locator('[data-panel=cpu] .u-over').click({ position: { x: 200, y: 60 } });
  await until('the moment is in the address', () => /[?&]at=\d+/.test(page.url()));
  await page.reload();
  await page.locator('[data-culprits]', { hasText: /at \d\d:\d\d:\d\d/ }).waitFor();
  await accessible('host');
  await harmless();
});

test('a past of hours is drawn, and dragging over a chart looks nearer', limit, async () => {
  await page.goto(`${stage.url}/hosts/${stage.gone}?range=1h`);
  await page.locator('[data-panel=cpu][data-drawn=yes]').waitFor();
  const box = await page.locator('[data-panel=cpu] .u-over').boundingBox();
  await page.mouse.move(box.x + 100, box.y + 50);
  await page.mouse.down();
  await page.mouse.move(box.x + 200, box.y + 50, { steps: 5 });
  await page.mouse.up();
  await until('the span is in the address', () => /from=\d+&to=\d+/.test(page.url().replace(/.*\?/, '')));
  await page.locator('[data-panel=cpu][data-drawn=yes]').waitFor();
  await page.goBack();
  assert.match(page.url(), /range=1h/);
});

test('texts of hosts, processes and rules are inert', limit, async () => {
  await page.goto(`${stage.url}/hosts/${stage.real}`);
  await page.getByText('team=<script>window.pwned = 4</script>').first().waitFor();
  await page.locator('[data-culprits] td', { hasText: stage.process }).first().waitFor();
  await harmless();
  const evil = '"><img src=x onerror=window.pwned=9>';
  for (const at of [`/hosts/${encodeURIComponent(evil)}`, `/?q=${encodeURIComponent(evil)}`, `/explore?q=${encodeURIComponent(evil)}`, `/alerts/${encodeURIComponent(evil)}`, `/incidents/${encodeURIComponent(evil)}`, `/events?host=${encodeURIComponent(evil)}`, `/agents?q=${encodeURIComponent(evil)}`]) {
    await page.goto(stage.url + at);
    await page.locator('main').waitFor();
    await page.waitForTimeout(200);
    await harmless();
  }
});

test('an address that makes no sense says so, and leaves the way back', limit, async () => {
  const host = `/hosts/${stage.sick}`;
  for (const at of [
    '/hosts/nobody', `${host}?range=abc`, `${host}?range=-5m`, `${host}?from=x&to=y`, `${host}?from=2000&to=1000`, `${host}?from=1&to=99999999999999999`, `${host}?at=never`, `${host}?range=900000d`,
    '/explore?q=up&range=zzz', '/explore?q=up&view=zzz', '/explore?q=up&at=x&range=-1h', '/explore?q=up&range=999999d', '/explore?q=%00%00', '/graph?g0.expr=(&g0.range_input=zzz',
    '/alerts/nobody', '/alerts?tab=zzz', '/alerts?silenced=zzz', '/incidents/abc', '/incidents/99999999999999999999', '/incidents/-1',
    '/events?kind=zzz&since=xyz', '/events?host=nobody', '/agents?q=nobody&enrol=zzz', '/?view=zzz&q=nobody', '/status?x=y', '/silences?x=y',
  ]) {
    await page.goto(stage.url + at);
    await page.getByRole('navigation', { name: 'Pages' }).waitFor();
    await until(`words at ${at}`, async () => (await page.locator('main').innerText()).trim().length > 20);
  }
  await page.goto(`${stage.url}/hosts/nobody`);
  await page.locator('main').getByText('nobody').first().waitFor();
  await accessible('a host that there is not');
});

test('a query is asked, explained, and shared by its address', limit, async () => {
  await page.goto(`${stage.url}/explore`);
  await accessible('explore, empty');
  await page.locator('.cm-content').click();
  await page.keyboard.type('count(node_loa');
  await page.locator('.cm-tooltip-autocomplete', { hasText: 'node_load1' }).waitFor();
  await page.keyboard.press('Escape');
  await page.keyboard.type('d1');
  // Enter takes a completion while some are shown.
  await page.keyboard.press('Escape');
  await page.keyboard.press('Enter');
  await page.locator('[data-outcome]', { hasText: '1 series' }).waitFor();
  await page.getByRole('button', { name: 'explain' }).click();
  await page.getByText(/answered from raw/).waitFor();
  await page.getByRole('button', { name: 'table' }).click();
  await until('the table', async () => Number(await page.locator('tbody td.number').innerText()) > HOSTS);
  await accessible('explore');
  const shared = await newPage();
  await shared.goto(page.url());
  await until('the same table', async () => (await shared.locator('tbody td.number').count()) === 1);
  await shared.close();
  await page.goto(`${stage.url}/explore?q=rate(`);
  await page.getByText('The query is not understood').waitFor();
});

test('an alert says why, is acknowledged, and silenced', limit, async (context) => {
  await page.goto(`${stage.url}/alerts`);
  await page.getByRole('link', { name: `All cores of ${stage.sick} are busy` }).click();
  await page.getByRole('heading', { name: `All cores of ${stage.sick} are busy` }).waitFor();
  await page.getByText('100 * (1 - avg by (instance)').first().waitFor();
  await page.locator('.u-over').first().waitFor();
  await page.locator('[data-culprits] tbody tr', { hasText: 'postgres' }).waitFor();
  assert.equal(await page.getByRole('link', { name: 'Runbook' }).count(), 0, 'a link that is script');
  await accessible('alert');
  await page.getByRole('button', { name: 'Acknowledge' }).click();
  await page.getByText(/acknowledged by/).first().waitFor();
  await page.getByRole('button', { name: 'Silence…' }).click();
  await page.getByText(/^Silences 1 of/).waitFor();
  await accessible('silence');
  await page.getByRole('button', { name: 'Silence', exact: true }).isEnabled();
  await page.getByLabel('Why').fill('known <b onclick=window.pwned=6>fault</b>');
  await page.getByRole('button', { name: 'Silence', exact: true }).click();
  await page.locator('.tag', { hasText: /^silenced$/ }).waitFor();
  await page.goto(`${stage.url}/alerts`);
  await page.locator('[data-silenced]', { hasText: '1 silenced' }).waitFor();
  await page.getByText('Nothing fires').waitFor();
  await accessible('alerts');
  await page.getByRole('button', { name: 'Silences' }).click();
  await page.getByText('known <b onclick').waitFor();
  await accessible('silences');
  await page.getByRole('button', { name: 'End it' }).click();
  await page.getByText('Nothing is silenced').waitFor();
  // A window that comes again each week, from nothing.
  await page.getByRole('button', { name: 'New silence…' }).click();
  await page.getByLabel('Whatever matches all of these').fill('instance');
  await page.getByText('▲ Write').waitFor();
  await page.getByLabel('Whatever matches all of these').fill(`instance="${stage.gone}"`);
  await page.getByRole('button', { name: 'Every week' }).click();
  await page.getByRole('button', { name: 'Sun', exact: true }).click();
  await page.getByLabel('From').fill('22:00');
  await page.getByLabel('to', { exact: true }).fill('03:00');
  await page.getByLabel('Why').fill('patches');
  await accessible('weekly silence');
  await page.getByRole('button', { name: 'Silence', exact: true }).click();
  await page.getByText('Sun 22:00–24:00 Europe/Berlin and Mon 00:00–03:00 Europe/Berlin').waitFor();
  await accessible('silences, weekly');
  // What is changed is what is said; its hours stay.
  await page.getByRole('button', { name: 'Change…' }).click();
  await page.getByRole('heading', { name: 'Change the silence' }).waitFor();
  await accessible('silence, changed');
  await page.getByLabel('Why').fill('patches, and disks');
  await page.getByRole('button', { name: 'Change', exact: true }).click();
  await page.getByText('patches, and disks').waitFor();
  assert.equal(await page.getByText('Sun 22:00–24:00 Europe/Berlin and Mon 00:00–03:00 Europe/Berlin').count(), 1);
  await page.getByRole('button', { name: 'End it' }).click();
  await page.getByText('Nothing is silenced').waitFor();
  await page.getByRole('button', { name: 'Incidents' }).click();
  await page.locator('tbody a').first().click();
  await page.getByRole('heading', { name: 'Time line' }).waitFor();
  await page.getByText('acknowledged', { exact: true }).first().waitFor();
  await accessible('incident');
  await harmless();
});

test('agents, events and status say how Pitwatch itself is', limit, async () => {
  await page.goto(`${stage.url}/agents?q=${stage.real}`);
  await page.getByRole('link', { name: stage.real }).waitFor();
  await accessible('agents');
  await page.getByRole('button', { name: 'Enrol…' }).click();
  await page.getByRole('button', { name: 'Make a token' }).click();
  assert.match(await page.locator('[data-enrol]').innerText(), /^pitwatch-agent enroll --collector \S+ --token pwe1_\S+$/);
  await accessible('enrolment');
  await page.goto(`${stage.url}/status`);
  await page.getByText('Pitwatch is well').waitFor();
  await page.getByRole('cell', { name: 'stage' }).waitFor();
  await accessible('status');
  await page.goto(`${stage.url}/events`);
  await page.getByRole('heading', { name: 'Events' }).waitFor();
  await accessible('events');
});

test('over TLS all is as without, and who does not know the authority is warned', limit, async () => {
  const secure = await openStage(['--hosts', '4', '--seconds', '300', '--made-up-only', '--tls'], process.env.UI_PROFILE ?? 'debug');
  // Somebody who went past the warning, or took the authority's certificate into the browser.
  const knowing = await openBrowser({ ignoreHTTPSErrors: true });
  try {
    const warned = await browser.context.newPage();
    await assert.rejects(warned.goto(secure.url), /ERR_CERT_AUTHORITY_INVALID/);
    await warned.close();
    const view = await knowing.context.newPage();
    const wrong = [];
    view.on('pageerror', (error) => wrong.push(error.message));
    await view.goto(secure.url);
    await view.getByLabel('Token').fill(secure.admin);
    await view.getByRole('button', { name: 'Sign in' }).click();
    await view.getByRole('navigation', { name: 'Pages' }).waitFor();
    const cookie = (await knowing.context.cookies()).find(({ name }) => name === 'pitwatch_session');
    assert.ok(cookie.secure && cookie.httpOnly, JSON.stringify(cookie));
    await view.goto(`${secure.url}/hosts/${secure.sick}`);
    await view.locator('.live', { hasText: /live$/ }).waitFor();
    await view.locator('[data-panel=cpu][data-drawn=yes]').waitFor();
    assert.deepEqual(wrong, []);
  } finally {
    await knowing.close();
    await secure.close();
  }
});

test('who may not do a thing sees why', limit, async () => {
  const made = await api(stage, 'POST', '/api/v1/pitwatch/tokens', { kind: 'api', name: 'vera', role: 'viewer', ttl_secs: 3600 });
  const other = await openBrowser();
  try {
    await signIn(other.context, stage, made.body.data.token);
    const view = await other.context.newPage();
    await view.goto(`${stage.url}/agents?enrol=1`);
    await view.getByText('The role admin is needed; this token has the role viewer.').first().waitFor();
    assert.ok(await view.getByRole('button', { name: 'Make a token' }).isDisabled());
  } finally {
    await other.close();
  }
});

test('the keyboard goes everywhere, and dark and light are kept', limit, async () => {
  await page.goto(stage.url);
  await page.locator('main').waitFor();
  for (const [key, path] of [['a', '/alerts'], ['x', '/explore'], ['n', '/agents'], ['s', '/status'], ['h', '/']]) {
    await page.keyboard.press('Escape');
    await page.keyboard.press('g');
    await page.keyboard.press(key);
    await until(`g ${key}`, () => new URL(page.url()).pathname === path);
    // Where the query box takes the focus by itself, Escape leaves it.
    if (path === '/explore') await page.locator('.cm-content').waitFor();
  }
  await page.keyboard.press('t');
  assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), 'light');
  await page.reload();
  await page.locator('.complaint').first().waitFor();
  assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), 'light');
  await accessible('fleet, light');
  await page.keyboard.press('t');
  await page.keyboard.press('?');
  await page.getByRole('dialog').waitFor();
  await accessible('keys');
});

test('a session that ends asks for a token again', limit, async () => {
  await page.goto(stage.url);
  await page.locator('summary').click();
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByLabel('Token').waitFor();
  await signIn(browser.context, stage);
});

test('nothing was asked of anybody else, and nothing went wrong on the way', limit, () => {
  assert.deepEqual(strangers, []);
  assert.deepEqual(complaints, []);
});
