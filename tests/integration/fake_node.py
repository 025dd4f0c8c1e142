"""A node's API as far as trustchain-server asks it: GET of the files in a folder, by HTTPS. Arguments: folder,
port, certificate chain, key."""
import http.server, os, socket, ssl, sys

folder, port, cert, key = sys.argv[1:]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = os.path.join(folder, self.path.replace("/", "_"))
        there = os.path.exists(path)
        body = open(path, "rb").read() if there else b"{}"
        self.send_response(200 if there else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6


tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain(cert, key)
server = Server(("::1", int(port)), Handler)
server.socket = tls.wrap_socket(server.socket, server_side=True)
server.serve_forever()
