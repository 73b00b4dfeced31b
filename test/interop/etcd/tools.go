//go:build tools

// Package tools pins the stock etcd that a stock API server keeps its objects in.
package tools

import _ "go.etcd.io/etcd/server/v3/etcdmain"
