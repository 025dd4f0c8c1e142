// The node's HTTP API as this page uses it; docs/api/openapi.yaml is its definition.

export interface Status {
  id: string; name: string; overlay_addr: string; chain_id: string; height: number; state_root: string;
  view: number; final_time_ms: number; block_time_ms: number; epoch: number; validators: number;
  quorum: number; peers_connected: number; pending_ops: number; syncing: boolean; ready: boolean;
  finality_p50_us: number; finality_p99_us: number; ops_final: number; chunks_stored: number;
  chunk_bytes_stored: number; uptime_ms: number; version: string;
}
export interface MeshNode {
  id: string; name: string; addr: string; overlay_addr: string; state: "up" | "down" | "connecting" | "refused";
  self: boolean; reason: string; since_ms: number; height: number; state_root: string; rtt_us: number;
  bytes_sent: number; bytes_received: number; power: number; stake: number; slashed_height: number; api: string;
  certificate: { sha256: string; serial: string; not_before_ms: number; not_after_ms: number; revoked: boolean };
  sector: { number: number; bytes: number; answered_epoch: number };
}
export interface Commitment { size: number; chunk_bytes: number; chunks: number; root: string }
export interface Asset {
  id: string; kind: string; name: string; owner: string; owner_name: string; state: string; holder: string | null;
  policy: string; addr: string; registered_height: number; registered_ms: number; updated_height: number;
  updated_ms: number; revision: number; registered_op: string;
  grants: { node: string; rights: ("read" | "use" | "manage")[] }[]; content: Commitment | null;
}
export interface Page<T> { items: T[]; next: string | null }
export interface HistoryEntry {
  height: number; index: number; time_ms: number; op: string; action: string; actor: string; actor_name: string;
  state: string; owner: string; detail: string;
}
export interface Chunk { index: number; hash: string | null; bytes: number; held_by: string[] }
export interface ChunkPage extends Page<Chunk> { answered: string[] }
export interface Operation {
  id: string; height: number; index: number; module: string; kind: string; owner: string; owner_name: string;
  asset: string; nonce: number; time_ms: number; payload: Record<string, unknown> | null;
}
export interface Proof {
  name: "space" | "stake" | "work" | "time"; present: boolean; passed: boolean; summary: string;
  checks: { what: string; passed: boolean; detail: string }[];
}
export interface Block {
  height: number; id: string; parent: string; view: number; proposer: string; proposer_name: string;
  time_ms: number; epoch: number; ops_root: string; ops_count: number; state_root: string;
}
export const eventTypes = ["final", "peer_up", "peer_down", "refused", "evidence", "sync", "repair", "nullified"] as const;
export type EventType = (typeof eventTypes)[number];
export interface NodeEvent {
  seq: number; wall_ms: number; type: EventType; height: number; count: number; finality_us: number;
  hash: string; peer: string; text: string;
}

export class ApiError extends Error {
  /** status 0: the node did not answer at all. */
  constructor(readonly status: number, message: string) {
    super(message);
  }
}

export const UNREACHABLE = "The server does not answer. It may be stopped; this page tries again by itself.";
const TIMEOUT_MS = 6000;
const WRITE_MS = 40_000; // a node says after 20 s that an operation is not final yet

/** The bearer token, if one was given: in this tab's memory alone, gone when it is reloaded. */
export const session = { token: "" };

/** The answer, or an ApiError with what the server says is wrong. */
export async function ask(path: string, how: RequestInit = {}): Promise<Response> {
  const headers: Record<string, string> = { accept: "application/json" };
  if (session.token) headers["authorization"] = `Bearer ${session.token}`;
  if (how.body) headers["content-type"] = "application/json";
  let response: Response;
  try {
    response = await fetch(path, { cache: "no-store", headers, signal: AbortSignal.timeout(TIMEOUT_MS), ...how });
  } catch {
    throw new ApiError(0, UNREACHABLE);
  }
  if (response.ok) return response;
  const body = (await response.json().catch(() => null)) as { error?: { message?: string; detail?: string } } | null;
  throw new ApiError(response.status, [body?.error?.message ?? response.statusText, body?.error?.detail].filter(Boolean).join(": "));
}
/** What came, or that it broke off. */
const whole = <T>(body: Promise<T>): Promise<T> =>
  body.catch(() => {
    throw new ApiError(0, UNREACHABLE);
  });
export const get = async <T>(path: string): Promise<T> => whole((await ask(path)).json() as Promise<T>);
export const getText = async (path: string): Promise<string> => whole((await ask(path)).text());
/** What never changes under its address may come from the browser's store. */
export const getBytes = async (path: string, cache: RequestCache = "no-store"): Promise<Uint8Array<ArrayBuffer>> =>
  new Uint8Array(await whole((await ask(path, { cache })).arrayBuffer()));
export const post = async <T>(path: string, body: unknown): Promise<T> =>
  whole((await ask(path, { method: "POST", body: JSON.stringify(body), signal: AbortSignal.timeout(WRITE_MS) })).json() as Promise<T>);

export const query = (params: Record<string, string>): string => {
  const set = Object.entries(params).filter(([, v]) => v !== "");
  return set.length ? `?${new URLSearchParams(set).toString()}` : "";
};
const items = <T>(page: { items: T[] }): T[] => page.items;
export const id = encodeURIComponent;

export interface AssetQuery { q: string; id: string; kind: string; state: string; owner: string; cursor: string }

export const api = {
  status: () => get<Status>("/v1/status"),
  nodes: () => get<{ items: MeshNode[] }>("/v1/nodes").then(items),
  assets: (p: AssetQuery, limit: number) => get<Page<Asset>>(`/v1/assets${query({ ...p, limit: String(limit) })}`),
  asset: (a: string) => get<Asset>(`/v1/assets/${id(a)}`),
  history: (a: string) => get<Page<HistoryEntry>>(`/v1/assets/${id(a)}/history`),
  chunks: (a: string, cursor: string) => get<ChunkPage>(`/v1/assets/${id(a)}/chunks${query({ cursor, limit: "500" })}`),
  operations: (cursor: string, limit: number) => get<Page<Operation>>(`/v1/operations${query({ cursor, limit: String(limit) })}`),
  operation: (o: string) => get<Operation>(`/v1/operations/${id(o)}`),
  /** A node checks so many a second; then it asks to wait. */
  proofs: async (o: string): Promise<Proof[]> => {
    for (let tries = 0; ; tries++)
      try {
        return items(await get<{ items: Proof[] }>(`/v1/operations/${id(o)}/proofs`));
      } catch (e) {
        if (!(e instanceof ApiError) || e.status !== 503 || tries === 5) throw e;
        await new Promise((again) => setTimeout(again, 1000));
      }
  },
  blocks: (cursor: string, limit: number) => get<Page<Block>>(`/v1/blocks${query({ cursor, limit: String(limit) })}`),
  block: (height: string) => get<Block>(`/v1/blocks/${id(height)}`),
  blockOperations: (height: string, cursor: string) =>
    get<Page<Operation>>(`/v1/blocks/${id(height)}/operations${query({ cursor, limit: "50" })}`),
};

/** Live events until close(); `live` tells whether the line stands. It comes back by itself. */
export function subscribe(on: (e: NodeEvent) => void, live: (up: boolean) => void): { close(): void } {
  let source: EventSource | null = null;
  let timer = 0;
  const open = (): void => {
    source = new EventSource("/v1/events");
    source.onopen = () => live(true);
    source.onerror = () => {
      live(false);
      // A browser gives up after an answer that is no stream, such as "too many".
      if (source?.readyState === EventSource.CLOSED) timer = window.setTimeout(open, 2000);
    };
    for (const type of eventTypes)
      source.addEventListener(type, (m) => on(JSON.parse((m as MessageEvent<string>).data) as NodeEvent));
  };
  open();
  return {
    close() {
      clearTimeout(timer);
      source?.close();
    },
  };
}
