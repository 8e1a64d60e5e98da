// The server under test: the built binary, as a dev server that the SDK starts, or as a process that a test may kill.
import { spawn, type ChildProcess } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { Connection } from '@temporalio/client';

/** MAINSTAY_BIN, or cargo's debug build in the cache that `cargo xtask` uses. */
export function binary(): string {
  const cache = process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache');
  const target = process.env.CARGO_TARGET_DIR ?? join(cache, 'mainstay', 'target');
  const path = process.env.MAINSTAY_BIN ?? join(target, 'debug', 'mainstay');
  accessSync(path, constants.X_OK);
  return path;
}

async function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const socket = createServer().on('error', reject);
    socket.listen(0, '127.0.0.1', () => {
      const { port } = socket.address() as AddressInfo;
      socket.close(() => resolve(port));
    });
  });
}

/** A server that keeps its data and its port over kills. */
export class KillableServer {
  private process?: ChildProcess;

  private constructor(
    private readonly port: number,
    private readonly directory: string
  ) {}

  static async start(directory: string): Promise<KillableServer> {
    const server = new KillableServer(await freePort(), directory);
    await server.start();
    return server;
  }

  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  async start(): Promise<void> {
    const flags = ['--ip', '127.0.0.1', '--port', `${this.port}`, '--headless', '--db-filename', this.directory];
    this.process = spawn(binary(), ['server', 'start-dev', ...flags], { stdio: ['ignore', 'ignore', 'inherit'] });
    for (let tries = 0; ; tries++) {
      try {
        await (await Connection.connect({ address: this.address, connectTimeout: '1s' })).close();
        return;
      } catch (error) {
        if (tries === 60) throw error;
        await new Promise((resolve) => setTimeout(resolve, 250));
      }
    }
  }

  /** SIGKILL, as a crash does it. */
  async kill(): Promise<void> {
    const process = this.process;
    if (!process || process.exitCode !== null || process.signalCode !== null) return;
    await new Promise((resolve) => {
      process.once('exit', resolve);
      process.kill('SIGKILL');
    });
  }
}
