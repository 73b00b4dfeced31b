import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import { dmesgLine } from "#emulator/join/kernel-log.ts";
import type { Service } from "#emulator/services.ts";
import type { MachineService } from "#gen/machine/machine_pb.ts";
import { abortable } from "#lib/abort.ts";
import { IchorError } from "#lib/errors.ts";
import { bootOf } from "./call.ts";

/** Logs and events. */
export const logMethods: Partial<ServiceImpl<typeof MachineService>> = {
  async *dmesg(request, context) {
    const { kernel } = bootOf(context);
    let next = request.tail ? kernel.end : 0;
    for (;;) {
      for (const record of kernel.from(next)) {
        next = record.seq + 1;
        yield { bytes: Buffer.from(dmesgLine(record)) };
      }
      if (!request.follow) return;
      await changed(
        (wake) => kernel.follow(wake),
        () => kernel.end > next,
        context,
      );
    }
  },
  async *logs(request, context) {
    const boot = bootOf(context);
    const line = (event: Service["events"][number]) =>
      `${new Date(event.at).toISOString()} ${request.id}: ${event.state.toLowerCase()}: ${event.message}\n`;
    const find = () => {
      const service = boot.services.get(request.id);
      if (!service) throw new IchorError("not_found", `log "${request.id}" was not registered`);
      return service;
    };
    const tail =
      request.tailLines >= 0 && request.follow && request.tailLines !== 0 ? request.tailLines : find().events.length;
    let last = 0;
    for (const event of find().events.slice(-tail)) {
      last = event.at;
      yield { bytes: Buffer.from(line(event)) };
    }
    while (request.follow) {
      await changed(
        (wake) => boot.kernel.follow(wake),
        () => find().changed > last,
        context,
      );
      for (const event of find().events.filter((candidate) => candidate.at > last)) {
        last = event.at;
        yield { bytes: Buffer.from(line(event)) };
      }
    }
  },
  logsContainers(_, context) {
    return {
      messages: [
        {
          ids: bootOf(context)
            .services.list()
            .map((service) => service.id),
        },
      ],
    };
  },
  async *events(request, context) {
    const { events, signal, now } = bootOf(context);
    const all = events.all();
    let position = events.end;
    if (request.tailId) {
      const found = all.findIndex((event) => event.id === request.tailId);
      position = events.start + (found < 0 ? 0 : found + 1);
    } else if (request.tailEvents !== 0)
      position = request.tailEvents < 0 ? events.start : Math.max(events.start, events.end - request.tailEvents);
    else if (request.tailSeconds > 0) {
      const from = now.call(bootOf(context)) - request.tailSeconds * 1000;
      position = events.start + all.filter((event) => event.at < from).length;
    }
    const until = AbortSignal.any([context.signal, signal]);
    for (;;) {
      const found = events.at(position);
      if (!found) {
        await events.wait(position, until);
        continue;
      }
      position = found.next;
      if (request.withActorId && found.event.actor !== request.withActorId) continue;
      yield { data: found.event.data, id: found.event.id, actorId: found.event.actor };
    }
  },
};

async function changed(
  follow: (wake: () => void) => () => void,
  ready: () => boolean,
  context: HandlerContext,
): Promise<void> {
  const signal = AbortSignal.any([context.signal, bootOf(context).signal]);
  while (!ready()) {
    const { promise, resolve } = Promise.withResolvers<void>();
    const stop = follow(resolve);
    try {
      await abortable(promise, signal);
    } finally {
      stop();
    }
  }
}
