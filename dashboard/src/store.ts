// What is known of the mesh now, kept fresh by the node's events and by asking once a second.
import { api, subscribe, type MeshNode, type NodeEvent, type Status } from "./api";

const LOG_MAX = 400;
const BLOCKS_MAX = 240;
const ASK_MS = 1000; // what changes without an event, such as a peer's height
const SOON_MS = 250;

export function quantiles(values: number[]): { p50: number; p99: number } {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (q: number): number => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? 0;
  return { p50: at(0.5), p99: at(0.99) };
}

export type Change = "state" | "block" | "operations" | "log" | "line";

class Store {
  status: Status | null = null;
  nodes: MeshNode[] = [];
  /** Newest last: blocks as they became final here. */
  blocks: NodeEvent[] = [];
  /** Newest last: everything else that happened. */
  log: NodeEvent[] = [];
  /** The node answers and its events come. */
  live = false;
  /** When the node last answered. */
  heard_ms = 0;

  private seen = new Set<string>();
  private listeners: ((change: Change) => void)[] = [];
  private stream: { close(): void } | null = null;
  private streaming = false;
  private answering = false;
  private asking: Promise<void> | null = null;
  private askSoon = 0;

  onChange(listener: (change: Change) => void): void {
    this.listeners.push(listener);
  }
  private tell(change: Change): void {
    for (const listener of this.listeners) listener(change);
  }

  /** A hidden page holds no connection: a browser has but six for a server. */
  start(): void {
    const show = (): void => {
      if (document.hidden) {
        this.stream?.close();
        this.stream = null;
      } else if (!this.stream) {
        this.stream = subscribe((e) => this.onEvent(e), (up) => {
          this.streaming = up;
          this.line();
          void this.refresh();
        });
        void this.refresh();
      }
    };
    document.addEventListener("visibilitychange", show);
    show();
    setInterval(() => {
      if (!document.hidden) void this.refresh();
    }, ASK_MS);
  }

  private line(): void {
    const live = this.streaming && this.answering;
    if (live === this.live) return;
    this.live = live;
    this.tell("line");
  }

  private onEvent(e: NodeEvent): void {
    // After a break the node tells again what it keeps.
    const name = `${e.wall_ms}.${e.seq}`;
    if (this.seen.has(name)) return;
    this.seen.add(name);
    const list = e.type === "final" ? this.blocks : this.log;
    list.push(e);
    const max = e.type === "final" ? BLOCKS_MAX : LOG_MAX;
    for (const gone of list.splice(0, list.length - max)) this.seen.delete(`${gone.wall_ms}.${gone.seq}`);
    if (e.type !== "final") this.tell("log");
    else this.tell(e.count > 0 ? "operations" : "block");
    if (!this.askSoon)
      this.askSoon = window.setTimeout(() => {
        this.askSoon = 0;
        void this.refresh();
      }, SOON_MS);
  }

  /** Asks what is so now; who comes while it is being asked waits for the same answer. */
  refresh(): Promise<void> {
    this.asking ??= this.ask().finally(() => (this.asking = null));
    return this.asking;
  }
  private async ask(): Promise<void> {
    try {
      [this.status, this.nodes] = await Promise.all([api.status(), api.nodes()]);
      this.heard_ms = Date.now();
      this.answering = true;
      this.tell("state");
    } catch {
      this.answering = false;
    }
    this.line();
  }

  node(id: string): MeshNode | undefined {
    return this.nodes.find((n) => n.id === id || n.name === id);
  }
  nodeName(id: string): string {
    return this.node(id)?.name ?? id.slice(0, 8);
  }

  /** Proposal to final of the blocks known here. */
  finality(): { p50: number; p99: number } {
    return quantiles(this.blocks.map((b) => b.finality_us).filter((us) => us > 0));
  }

  /** Operations a second over the last minute, or over the time that the blocks known here span. */
  opsPerSecond(): number {
    const now = Date.now();
    const oldest = this.blocks[0]?.wall_ms ?? now;
    const since = Math.max(now - 60_000, oldest);
    const ops = this.blocks.filter((b) => b.wall_ms > since).reduce((sum, b) => sum + b.count, 0);
    return ops / Math.max(1, (now - since) / 1000);
  }
}

export const store = new Store();
