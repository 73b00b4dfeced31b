import { createRootRoute, createRoute, createRouter, redirect } from "@tanstack/react-router";
import { ClusterPage } from "./pages/ClusterPage.tsx";
import { ClustersPage } from "./pages/ClustersPage.tsx";
import { JoinPage } from "./pages/JoinPage.tsx";
import { MachinePage } from "./pages/MachinePage.tsx";
import { MachinesPage } from "./pages/MachinesPage.tsx";
import { PlanePage } from "./pages/PlanePage.tsx";
import { SignInPage } from "./pages/SignInPage.tsx";
import { Frame } from "./parts/Frame.tsx";
import { NotFound } from "./parts/NotFound.tsx";
import { paths } from "./paths.ts";

const root = createRootRoute();
const frame = createRoute({ getParentRoute: () => root, id: "frame", component: Frame });

const pages = [
  createRoute({
    getParentRoute: () => frame,
    path: "/",
    beforeLoad: () => {
      throw redirect({ to: paths.machines });
    },
  }),
  createRoute({
    getParentRoute: () => frame,
    path: "/machines",
    // Search and order are part of the address: a list as one sees it can be sent to a colleague.
    validateSearch: (search: Record<string, unknown>): { q?: string; sort?: string } => ({
      ...(search.q !== undefined && search.q !== "" ? { q: String(search.q) } : {}),
      ...(typeof search.sort === "string" ? { sort: search.sort } : {}),
    }),
    component: MachinesPage,
  }),
  createRoute({ getParentRoute: () => frame, path: "/machines/$id", component: MachinePage }),
  createRoute({ getParentRoute: () => frame, path: "/clusters", component: ClustersPage }),
  createRoute({ getParentRoute: () => frame, path: "/clusters/$name", component: ClusterPage }),
  createRoute({ getParentRoute: () => frame, path: "/join", component: JoinPage }),
  createRoute({ getParentRoute: () => frame, path: "/plane", component: PlanePage }),
  createRoute({ getParentRoute: () => frame, path: "$", component: () => <NotFound what="page" /> }),
];

const signin = createRoute({ getParentRoute: () => root, path: "/signin", component: SignInPage });

/** The console's router. */
export const router = createRouter({ routeTree: root.addChildren([frame.addChildren(pages), signin]) });
