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

const root = createRootRoute({ notFoundComponent: () => <NotFound what="page" /> });
const frame = createRoute({ getParentRoute: () => root, id: "frame", component: Frame });

const pages = [
  createRoute({
    getParentRoute: () => frame,
    path: "/",
    beforeLoad: () => {
      throw redirect({ to: "/machines" });
    },
  }),
  createRoute({
    getParentRoute: () => frame,
    path: "/machines",
    // The search is part of the address: a filtered list can be sent to a colleague.
    validateSearch: (search: Record<string, unknown>): { q?: string } =>
      typeof search.q === "string" && search.q ? { q: search.q } : {},
    component: MachinesPage,
  }),
  createRoute({ getParentRoute: () => frame, path: "/machines/$id", component: MachinePage }),
  createRoute({ getParentRoute: () => frame, path: "/clusters", component: ClustersPage }),
  createRoute({ getParentRoute: () => frame, path: "/clusters/$name", component: ClusterPage }),
  createRoute({ getParentRoute: () => frame, path: "/join", component: JoinPage }),
  createRoute({ getParentRoute: () => frame, path: "/plane", component: PlanePage }),
];

const signin = createRoute({ getParentRoute: () => root, path: "/signin", component: SignInPage });

/** The console's router. */
export const router = createRouter({ routeTree: root.addChildren([frame.addChildren(pages), signin]) });
