/** The system's Chromium, driven by playwright-core. */
import { existsSync } from "node:fs";
import { type Browser, chromium } from "playwright-core";

const PLACE = process.env.CHROMIUM ?? "/usr/bin/chromium";

/** Why there is no browser to test with, or undefined where there is one. */
export const NO_BROWSER = existsSync(PLACE)
  ? undefined
  : `there is no browser at ${PLACE}; install Debian's chromium, or name one in CHROMIUM`;

/** Starts it with an empty profile of its own. */
export function launchChromium(): Promise<Browser> {
  return chromium.launch({
    executablePath: PLACE,
    headless: true,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--no-proxy-server",
    ],
  });
}
