//go:build tools

// Package tools pins the stock API server that emulated clusters can run.
package tools

import _ "k8s.io/kubernetes/cmd/kube-apiserver/app"
