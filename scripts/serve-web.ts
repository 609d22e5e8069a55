/** Serves the demonstration page: `npm run web [PORT]`, 8080 where none is given. */
import { serveSite } from "./site-server.js";

const { origin } = await serveSite({ port: Number(process.argv[2] ?? 8080) });
console.log(`${origin}/web/`);
