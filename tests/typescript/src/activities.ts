// Activities as a user of the SDK would write them; they know nothing of the server.
import { ApplicationFailure, CompleteAsyncError, Context, heartbeat, sleep } from '@temporalio/activity';

export async function greet(name: string): Promise<string> {
  return `Hello, ${name}!`;
}

/** Fails so many times, then returns the attempt that succeeded. */
export async function flaky(failures: number): Promise<number> {
  const { attempt } = Context.current().info;
  if (attempt <= failures) throw new Error(`attempt ${attempt} fails`);
  return attempt;
}

/** Fails for good, with a type and details. */
export async function refuse(): Promise<void> {
  throw ApplicationFailure.nonRetryable('not today', 'Refused', { code: 7 });
}

/** Goes on from what the attempt before reported, and dies once in the middle; returns where the last attempt began. */
export async function resume(failAfter: number): Promise<number> {
  const begin: number = Context.current().info.heartbeatDetails ?? 0;
  for (let done = begin; done < 10; done++) {
    if (begin === 0 && done === failAfter) throw new Error('died');
    heartbeat(done + 1);
    await sleep(20);
  }
  return begin;
}

/** Heartbeats until it is told to stop. */
export async function untilCancelled(): Promise<string> {
  try {
    for (;;) {
      heartbeat();
      await sleep(50);
    }
  } catch (error) {
    Context.current().heartbeat('stopping');
    throw error;
  }
}

/** Somebody else completes it, by its token or by its id. */
export async function elsewhere(): Promise<string> {
  throw new CompleteAsyncError();
}
