// Looks at the agent's page in a real Chromium: accessibility, widths, zoom, keyboard, frames, and what it loads. Run by
// `tests/it/widget/browser.rs`, which serves the pages. Prints one JSON object; exit code 1 when something is wrong.
//
// usage: node look.mjs PLAN.json, where PLAN.json is {chromium, out, pages: [{name, lang, url}], frames: [{name, url, shown}]}
import { mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { chromium } from 'playwright-core';

const plan = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
mkdirSync(plan.out, { recursive: true });
const wrong = [];
const expect = (holds, what) => { if (!holds) wrong.push(what); };
const counts = { pages: 0, rules_passed: 0, violations: 0, frames_shown: 0, frames_blocked: 0, shots: 0 };

const browser = await chromium.launch({
  executablePath: plan.chromium,
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync'],
});

/** A page of its own, with what it asks for and what it complains of. */
async function opened(url, options) {
  const context = await browser.newContext({ viewport: { width: 320, height: 520 }, ...options });
  const page = await context.newPage();
  const heard = { requests: [], complaints: [] };
  page.on('request', (request) => heard.requests.push(request.url()));
  page.on('console', (message) => heard.complaints.push(message.text()));
  page.on('pageerror', (error) => heard.complaints.push(String(error)));
  await page.goto(url);
  return { context, page, heard };
}

const fits = (page) => page.evaluate(() => document.documentElement.scrollWidth <= document.documentElement.clientWidth);

for (const { name, lang, url } of plan.pages) {
  for (const colorScheme of ['light', 'dark']) {
    const label = `${name} ${lang} ${colorScheme}`;
    const { context, page, heard } = await opened(url, { colorScheme });
    counts.pages += 1;
    expect(heard.requests.length === 1, `${label}: loads ${heard.requests.slice(1)}`);
    // A link that is not taken is answered 403, which the browser says.
    const complaints = heard.complaints.filter((text) => name !== 'expired' || !text.includes('403'));
    expect(complaints.length === 0, `${label}: ${complaints}`);
    expect(await page.evaluate(() => document.documentElement.lang) === lang, `${label}: language`);
    expect(await page.evaluate(() => document.cookie === '' && document.scripts.length === 0), `${label}: cookie or script`);
    await page.evaluate(axe);
    const found = await page.evaluate(() => axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'wcag22aa', 'best-practice'] }));
    counts.rules_passed += found.passes.length;
    counts.violations += found.violations.length;
    for (const rule of found.violations) expect(false, `${label}: ${rule.id}: ${rule.nodes.map((node) => node.html)}`);
    expect(await fits(page), `${label}: wider than 320 px`);
    const background = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    expect((background === 'rgb(255, 255, 255)') === (colorScheme === 'light'), `${label}: background ${background}`);
    await page.screenshot({ path: `${plan.out}/${name}-${lang}-${colorScheme}.png`, fullPage: true });
    counts.shots += 1;
    // Twice as large in the same window: half as many pixels for the page to stand in.
    await page.setViewportSize({ width: 160, height: 520 });
    expect(await fits(page), `${label}: wider than 320 px at 200 %`);
    await page.setViewportSize({ width: 320, height: 520 });
    await page.keyboard.press('Tab');
    const focus = await page.evaluate(() => {
      const { tagName, offsetHeight, offsetWidth } = document.activeElement;
      const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
      return { tagName, offsetHeight, offsetWidth, outlineStyle, outlineWidth };
    });
    const links = await page.evaluate(() => document.querySelectorAll('a').length);
    if (links === 0) {
      expect(focus.tagName === 'BODY', `${label}: focus on ${focus.tagName}`);
    } else {
      expect(focus.tagName === 'A' && focus.offsetHeight >= 32 && focus.offsetWidth >= 32, `${label}: ${JSON.stringify(focus)}`);
      expect(focus.outlineStyle === 'solid' && parseInt(focus.outlineWidth, 10) >= 2, `${label}: ${JSON.stringify(focus)}`);
      await Promise.all([page.waitForEvent('framenavigated'), page.keyboard.press('Enter')]);
      await page.waitForLoadState();
      expect(await page.evaluate(() => document.documentElement.lang) === lang, `${label}: language behind the link`);
    }
    await context.close();
  }
}

for (const { name, url, shown } of plan.frames) {
  const { context, page } = await opened(url, { viewport: { width: 360, height: 560 } });
  await page.waitForTimeout(300);
  const frames = page.frames();
  const last = frames[frames.length - 1];
  const isBlocked = last.url().startsWith('chrome-error:');
  expect(shown !== isBlocked, `${name}: ${isBlocked ? 'blocked' : 'shown'}`);
  if (shown && !isBlocked) {
    const text = await last.locator('main').innerText({ timeout: 5000 });
    expect(text.includes(plan.words), `${name}: ${text}`);
    const size = await last.locator('.tier').evaluate((element) => getComputedStyle(element).fontSize);
    expect(size === '20px', `${name}: without styles, ${size}`);
  }
  counts[isBlocked ? 'frames_blocked' : 'frames_shown'] += 1;
  await page.screenshot({ path: `${plan.out}/frame-${name.replaceAll(/[^a-z]+/g, '-')}.png` });
  await context.close();
}

const contrast = await opened(plan.pages[0].url, { forcedColors: 'active', contrast: 'more' });
await contrast.page.screenshot({ path: `${plan.out}/contrast.png`, fullPage: true });
await browser.close();
console.log(JSON.stringify({ ...counts, wrong }));
process.exit(wrong.length === 0 ? 0 : 1);
