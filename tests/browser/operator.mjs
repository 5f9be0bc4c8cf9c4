// Looks at the operator's page in Chromium: axe in light and dark, with and without its script, narrow, by keyboard.
// Run by tests/it/operator/browser.rs from the folder that holds the packages: node operator.mjs STATE ADDRESS KEY
import { createRequire } from 'node:module';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const require = createRequire(join(process.cwd(), 'package.json'));
const { chromium } = require('playwright-core');
const axe = require('axe-core').source;
const [state, address, key] = process.argv.slice(2);
const url = `http://${address}/`;
const args = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync'];

function holds(what, is) {
  if (!is) throw new Error(`it does not hold: ${what}`);
}

async function inBrowser(options, work) {
  const profile = mkdtempSync(join(tmpdir(), 'operator-'));
  const context = await chromium.launchPersistentContext(profile, { executablePath: '/usr/bin/chromium', headless: true, args, ...options });
  try {
    const page = context.pages()[0] ?? await context.newPage();
    const complaints = [];
    page.on('console', line => { if (['error', 'warning'].includes(line.type())) complaints.push(line.text()); });
    page.on('pageerror', error => complaints.push(String(error)));
    await work(page);
    const own = complaints.filter(text => !text.includes('401'));
    holds(`the console is silent: ${own}`, own.length === 0);
  } finally {
    await context.close();
    rmSync(profile, { recursive: true, force: true });
  }
}

async function judge(page, name) {
  await page.addScriptTag({ content: axe }).catch(() => page.evaluate(axe));
  const found = await page.evaluate(() => window.axe.run(document));
  for (const it of found.violations) console.log(`  ${it.id}: ${it.help}: ${it.nodes.map(node => node.html.slice(0, 160)).join(' | ')}`);
  console.log(`${name}: axe ${found.passes.length} passes, ${found.violations.length} violations`);
  holds(`${name} has no violation`, found.violations.length === 0);
}

// The policy forbids what a test puts in; the judge is let in, and nothing else changes.
const judged = { bypassCSP: true };

async function look() {
  for (const colorScheme of ['light', 'dark']) {
    await inBrowser({ ...judged, colorScheme, viewport: { width: 1200, height: 900 } }, async page => {
      await page.goto(url, { waitUntil: 'load' });
      await page.waitForTimeout(1500);
      await page.evaluate(() => document.querySelectorAll('details').forEach((it, at) => { it.open = at === 0; }));
      await page.screenshot({ path: `operator-${state}-${colorScheme}.png`, fullPage: true });
      await judge(page, `${state}, ${colorScheme}`);
    });
  }
  await inBrowser({ ...judged, viewport: { width: 320, height: 800 } }, async page => {
    await page.goto(url);
    const [wide, seen] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
    await page.screenshot({ path: `operator-${state}-narrow.png`, fullPage: true });
    holds(`320 pixels are enough: ${wide} of ${seen}`, wide <= seen);
  });
  await inBrowser({ javaScriptEnabled: false, viewport: { width: 1200, height: 900 } }, async page => {
    await page.goto(url);
    holds('all parts are there without a script', await page.locator('main > section').count() === 10);
    await page.screenshot({ path: `operator-${state}-noscript.png`, fullPage: true });
    await page.locator('form.act button', { hasText: 'Run' }).first().click();
    holds('a question is asked', (await page.locator('.lead').textContent()).includes('as soon as possible?'));
    await page.locator('button').click();
    holds('it is done', page.url() === url);
    holds('and entered', (await page.locator('#journal').textContent()).includes('job.run'));
    await page.locator('#try summary').first().click();
    await page.fill('#try details[open] input[name="f.frequency_count"]', '48');
    await page.fill('#try details[open] input[name="f.recency_days"]', '12');
    await page.locator('#try details[open] button').click();
    holds('a question is answered', (await page.locator('#tried').textContent()).includes('clv_value_usd'));
  });
}

async function use() {
  // Under the policy as it is.
  await inBrowser({ viewport: { width: 1200, height: 900 } }, async page => {
    await page.goto(url, { waitUntil: 'load' });
    const time = () => page.locator('#status time').textContent();
    const first = await time();
    await page.waitForFunction(was => document.querySelector('#status time').textContent !== was, first, { timeout: 5000 });
    await page.locator('#writes button', { hasText: 'Run' }).first().focus();
    const focused = () => page.evaluate(() => document.activeElement.getAttribute('aria-label'));
    const label = await focused();
    await page.waitForTimeout(2500);
    holds('focus stays when a part is replaced', label && await focused() === label);
    let asked = '';
    page.once('dialog', dialog => { asked = dialog.message(); dialog.dismiss(); });
    await page.keyboard.press('Enter');
    holds('a question is asked', asked.includes('as soon as possible?'));
    holds('no is no', await page.locator('#note').textContent() === '');
    page.once('dialog', dialog => dialog.accept());
    await page.keyboard.press('Enter');
    await page.waitForFunction(() => document.getElementById('note').textContent.includes('was asked for'));
    await page.waitForFunction(() => document.getElementById('journal').textContent.includes('job.run'));
    await page.locator('#try summary').first().click();
    await page.fill('#try details[open] input[name="f.frequency_count"]', '48');
    await page.fill('#try details[open] input[name="f.recency_days"]', '12');
    await page.locator('#try details[open] button').click();
    await page.waitForFunction(() => document.getElementById('tried').textContent.includes('clv_value_usd'));
    await page.waitForTimeout(1500);
    holds('what is typed stays', await page.inputValue('#try details[open] input[name="f.frequency_count"]') === '48');
    await page.locator('#tried').screenshot({ path: `operator-${state}-tried.png` });
    const load = await page.evaluate(() => performance.getEntriesByType('navigation')[0].toJSON());
    console.log(`${state}: ${load.decodedBodySize} bytes, answered in ${(load.responseEnd - load.requestStart).toFixed(1)} ms, drawn after ${load.domContentLoadedEventEnd.toFixed(0)} ms`);
  });
}

async function withKey() {
  await inBrowser({ viewport: { width: 1200, height: 900 } }, async page => {
    await page.goto(url);
    await page.screenshot({ path: 'operator-key.png' });
    await page.fill('#secret', 'sk_wrong');
    await page.click('button');
    await page.waitForFunction(() => document.getElementById('note').textContent.includes('not known'));
    await page.fill('#secret', key);
    await page.keyboard.press('Enter');
    await page.waitForSelector('#status time');
    const time = () => page.locator('#status time').textContent();
    const first = await time();
    await page.waitForFunction(was => document.querySelector('#status time').textContent !== was, first, { timeout: 5000 });
    page.once('dialog', dialog => dialog.accept());
    await page.locator('#writes button', { hasText: 'Run' }).first().click();
    await page.waitForFunction(() => document.getElementById('journal').textContent.includes('ann'));
    const kept = await page.evaluate(() => [document.cookie, Object.keys(localStorage).length, Object.keys(sessionStorage).length, document.documentElement.outerHTML]);
    holds('the key is kept nowhere', kept[0] === '' && kept[1] + kept[2] === 0 && !kept[3].includes(key));
    await page.reload();
    holds('it is gone with the page', await page.locator('#secret').count() === 1);
  });
  await inBrowser({ ...judged, colorScheme: 'dark' }, async page => {
    await page.goto(url);
    await judge(page, 'key, dark');
  });
}

if (state === 'key') {
  await withKey();
} else {
  await look();
  await use();
}
