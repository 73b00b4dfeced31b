// A program for one end of a link: pours bytes at whoever connects (`pour ADDRESS PORT`), or drinks and prints Mbit/s (`drink ADDRESS PORT WARM MEASURED`).
import { connect, createServer } from "node:net";

const [what = "", host = "", port = "", warmUp = "0", measured = "0"] = process.argv.slice(2);

if (what === "pour") {
  const bytes = Buffer.alloc(65_536, 7);
  const server = createServer((socket) => {
    const write = () => {
      while (!socket.destroyed && socket.write(bytes)) {}
    };
    socket.on("drain", write).on("error", () => {});
    write();
  });
  server.listen(Number(port), host, () => console.log("pouring"));
} else {
  const socket = connect(Number(port), host);
  let bytes = 0;
  socket.on("data", (chunk) => {
    bytes += chunk.length;
  });
  setTimeout(() => {
    const before = bytes;
    const started = performance.now();
    setTimeout(() => {
      console.log(`rate ${((bytes - before) * 8) / (performance.now() - started) / 1000}`);
      socket.destroy();
    }, Number(measured));
  }, Number(warmUp));
}
