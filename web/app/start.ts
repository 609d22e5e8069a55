/** What happens before anything is shown: the files that the page was opened for go to their view. */
import { navigate } from "../state/route.js";
import { servedRecording, sortServedFiles } from "../state/served-files.js";

export async function start(): Promise<void> {
  await sortServedFiles();
  if (servedRecording() !== undefined && location.hash === "") navigate("mmu");
}
