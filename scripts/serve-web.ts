/** Serves the demonstration page: `npm run web [PORT]`, 8080 where none is given. */
import { serveSite } from "./site-server.js";

const port = Number(process.argv[2] ?? 8080);
if (Number.isInteger(port) && port >= 0 && port < 65536) {
  const { origin } = await serveSite({ port });
  console.log(`${origin}/web/`);
} else {
  console.error("error: expected a port from 0 to 65535");
  process.exitCode = 2;
}
