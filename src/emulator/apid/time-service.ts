import type { ServiceImpl } from "@connectrpc/connect";
import { timestamp } from "#emulator/services.ts";
import type { TimeService } from "#gen/time/time_pb.ts";
import { bootOf } from "./call.ts";

/** The machine's clock, and the true one as its time server. */
export const timeService: Partial<ServiceImpl<typeof TimeService>> = {
  time(_, context) {
    const boot = bootOf(context);
    return {
      messages: [
        {
          server: "time.cloudflare.com",
          localtime: timestamp(boot.now()),
          remotetime: timestamp(boot.chassis.clock.now()),
        },
      ],
    };
  },
  timeCheck(request, context) {
    const boot = bootOf(context);
    return {
      messages: [
        { server: request.server, localtime: timestamp(boot.now()), remotetime: timestamp(boot.chassis.clock.now()) },
      ],
    };
  },
};
